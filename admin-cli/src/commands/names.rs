//! Short forms of names on the command line.

/// A node's name: `3` is short for `node-3`.
pub(crate) fn node_name(text: String) -> String {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { format!("node-{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_short_for_a_node() {
        assert_eq!(node_name("3".to_owned()), "node-3");
        assert_eq!(node_name("west-3".to_owned()), "west-3");
        assert_eq!(node_name(String::new()), "");
    }
}
