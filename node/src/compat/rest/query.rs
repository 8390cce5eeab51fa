//! A query string as a message.

use std::fmt::Display;
use std::num::IntErrorKind;
use std::str::FromStr;

use prost::Message;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, Value};

/// The parameters of one request.
#[derive(Debug)]
pub(in crate::compat) struct Query(Vec<(String, String)>);

impl Query {
    /// The parameters of an encoded query; empty ones count as not given.
    pub(super) fn of(text: &str) -> Self {
        let all = form_urlencoded::parse(text.as_bytes()).into_owned();
        Query(all.filter(|(_, value)| !value.is_empty()).collect())
    }

    /// Gives a parameter this one value.
    pub(super) fn set(&mut self, name: &str, value: &str) {
        self.0.retain(|(known, _)| known != name);
        self.0.push((name.to_owned(), value.to_owned()));
    }

    /// The message that the parameters say. Fields go by either of their names; what is no field is
    /// passed over.
    ///
    /// # Errors
    /// What could not be read, in the reference's words.
    pub(super) fn decode<M: Message + Default>(&self, kind: MessageDescriptor) -> Result<M, String> {
        let mut message = DynamicMessage::new(kind.clone());
        for field in kind.fields() {
            let named = |name: &str| name == field.name() || name == field.json_name();
            let given = self.0.iter().filter(|(name, _)| named(name)).map(|(_, value)| value.as_str());
            let given: Vec<&str> = given.collect();
            match given.as_slice() {
                [] => {}
                all if field.is_list() => {
                    let read: Result<Vec<Value>, String> = all.iter().map(|one| value(&field, one)).collect();
                    message.set_field(&field, Value::List(read?));
                }
                [one] => message.set_field(&field, value(&field, one)?),
                all => {
                    return Err(format!("too many values for field {:?}: {}", field.name(), all.join(", ")));
                }
            }
        }
        message.transcode_to().map_err(|error| error.to_string())
    }
}

fn value(field: &FieldDescriptor, text: &str) -> Result<Value, String> {
    match field.kind() {
        Kind::String => Ok(Value::String(text.to_owned())),
        Kind::Uint64 => number(field, text, "ParseUint").map(Value::U64),
        Kind::Uint32 => number(field, text, "ParseUint").map(Value::U32),
        Kind::Int64 => number(field, text, "ParseInt").map(Value::I64),
        Kind::Int32 => number(field, text, "ParseInt").map(Value::I32),
        other => Err(format!("field {:?} of {other:?} cannot stand in a query", field.name())),
    }
}

fn number<N: FromStr<Err = std::num::ParseIntError>>(
    field: &FieldDescriptor,
    text: &str,
    parser: &str,
) -> Result<N, String> {
    text.parse().map_err(|error: std::num::ParseIntError| {
        let why: &dyn Display = match error.kind() {
            IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => &"value out of range",
            _ => &"invalid syntax",
        };
        format!("parsing field {:?}: strconv.{parser}: parsing {text:?}: {why}", field.name())
    })
}

#[cfg(test)]
mod tests {
    use limes_api::{control, discovery};

    use crate::compat::descriptors::{control_pool, discovery_pool};

    use super::*;

    fn edges(text: &str) -> Result<control::ListEdgesRequest, String> {
        let kind = control_pool().get_message_by_name("controlplane.ListEdgesRequest").unwrap();
        Query::of(text).decode(kind)
    }

    #[test]
    fn fields_go_by_both_names_and_strangers_are_passed_over() {
        let both = edges("page_size=3&startTime=5&meta=a%20b+c&colour=green&addr=").unwrap();
        assert_eq!((both.page_size, both.start_time), (3, Some(5)));
        assert_eq!((both.meta.as_deref(), both.addr), (Some("a b c"), None));
    }

    #[test]
    fn lists_repeat_their_key() {
        let kind = discovery_pool().get_message_by_name("controlplane.ListFrontiersRequest").unwrap();
        let text = "edge_ids=1&frontierIds=x&edgeIds=2&cursor=0";
        let request: discovery::ListFrontiersRequest = Query::of(text).decode(kind).unwrap();
        assert_eq!((request.edge_ids, request.frontier_ids), (vec![1, 2], vec!["x".to_owned()]));
        assert_eq!((request.cursor, request.count), (Some(0), None));
    }

    #[test]
    fn what_cannot_be_read_is_said_as_the_reference_does() {
        let said = |text: &str| edges(text).unwrap_err();
        assert_eq!(said("meta=a&meta=b"), "too many values for field \"meta\": a, b");
        let number = "parsing field \"edge_id\": strconv.ParseUint: parsing";
        assert_eq!(said("edgeId=abc"), format!("{number} \"abc\": invalid syntax"));
        assert_eq!(said("edge_id=-1"), format!("{number} \"-1\": invalid syntax"));
        let large = "99999999999999999999";
        assert_eq!(said(&format!("edge_id={large}")), format!("{number} \"{large}\": value out of range"));
        assert!(said("page=x").starts_with("parsing field \"page\": strconv.ParseInt: "));
    }
}
