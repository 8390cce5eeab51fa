//! Decodes a query string as a message.

use std::num::IntErrorKind;
use std::str::FromStr;

use prost::Message;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, Value};

use super::error::QueryError;

/// The parameters of one request.
#[derive(Debug)]
pub(in crate::compat) struct Query(Vec<(String, String)>);

impl Query {
    /// The parameters of an encoded query, without empty ones.
    pub(super) fn of(text: &str) -> Self {
        let all = form_urlencoded::parse(text.as_bytes()).into_owned();
        Query(all.filter(|(_, value)| !value.is_empty()).collect())
    }

    /// Sets a parameter to one value.
    pub(super) fn set(&mut self, name: &str, value: &str) {
        self.0.retain(|(known, _)| known != name);
        self.0.push((name.to_owned(), value.to_owned()));
    }

    /// The message with the fields that the parameters name, by the proto or the JSON name. Other
    /// parameters are ignored.
    ///
    /// # Errors
    /// [`QueryError`], in the reference's words.
    pub(super) fn decode<M: Message + Default>(&self, kind: MessageDescriptor) -> Result<M, QueryError> {
        let mut message = DynamicMessage::new(kind.clone());
        for field in kind.fields() {
            let named = |name: &str| name == field.name() || name == field.json_name();
            let given = self.0.iter().filter(|(name, _)| named(name)).map(|(_, value)| value.as_str());
            let given: Vec<&str> = given.collect();
            match given.as_slice() {
                [] => {}
                all if field.is_list() => {
                    let read: Result<Vec<Value>, QueryError> =
                        all.iter().map(|one| value(&field, one)).collect();
                    message.set_field(&field, Value::List(read?));
                }
                [one] => message.set_field(&field, value(&field, one)?),
                all => {
                    let (field, values) = (field.name().to_owned(), all.join(", "));
                    return Err(QueryError::TooManyValues { field, values });
                }
            }
        }
        Ok(message.transcode_to()?)
    }
}

fn value(field: &FieldDescriptor, text: &str) -> Result<Value, QueryError> {
    match field.kind() {
        Kind::String => Ok(Value::String(text.to_owned())),
        Kind::Uint64 => number(field, text, "ParseUint").map(Value::U64),
        Kind::Uint32 => number(field, text, "ParseUint").map(Value::U32),
        Kind::Int64 => number(field, text, "ParseInt").map(Value::I64),
        Kind::Int32 => number(field, text, "ParseInt").map(Value::I32),
        other => Err(QueryError::Kind { field: field.name().to_owned(), kind: format!("{other:?}") }),
    }
}

fn number<N: FromStr<Err = std::num::ParseIntError>>(
    field: &FieldDescriptor,
    text: &str,
    parser: &'static str,
) -> Result<N, QueryError> {
    text.parse().map_err(|error: std::num::ParseIntError| {
        let reason = match error.kind() {
            IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => "value out of range",
            _ => "invalid syntax",
        };
        QueryError::Number { field: field.name().to_owned(), parser, text: text.to_owned(), reason }
    })
}

#[cfg(test)]
mod tests {
    use limes_api::{control, discovery};

    use crate::control::descriptors::{control_pool, discovery_pool};

    use super::*;

    fn edges(text: &str) -> Result<control::ListEdgesRequest, QueryError> {
        let kind = control_pool().get_message_by_name("controlplane.ListEdgesRequest").unwrap();
        Query::of(text).decode(kind)
    }

    #[test]
    fn fields_have_both_names_and_unknown_parameters_are_ignored() {
        let both = edges("page_size=3&startTime=5&meta=a%20b+c&colour=green&addr=").unwrap();
        assert_eq!((both.page_size, both.start_time), (3, Some(5)));
        assert_eq!((both.meta.as_deref(), both.addr), (Some("a b c"), None));
    }

    #[test]
    fn repeated_key_is_a_list() {
        let kind = discovery_pool().get_message_by_name("controlplane.ListFrontiersRequest").unwrap();
        let text = "edge_ids=1&frontierIds=x&edgeIds=2&cursor=0";
        let request: discovery::ListFrontiersRequest = Query::of(text).decode(kind).unwrap();
        assert_eq!((request.edge_ids, request.frontier_ids), (vec![1, 2], vec!["x".to_owned()]));
        assert_eq!((request.cursor, request.count), (Some(0), None));
    }

    #[test]
    fn several_values_of_one_field_are_rejected_in_the_references_words() {
        let error = edges("meta=a&meta=b").unwrap_err().to_string();
        assert_eq!(error, "too many values for field \"meta\": a, b");
    }

    #[test]
    fn malformed_numbers_are_rejected_in_the_references_words() {
        let error = |text: &str| edges(text).unwrap_err().to_string();
        let number = "parsing field \"edge_id\": strconv.ParseUint: parsing";
        assert_eq!(error("edgeId=abc"), format!("{number} \"abc\": invalid syntax"));
        assert_eq!(error("edge_id=-1"), format!("{number} \"-1\": invalid syntax"));
        let large = "99999999999999999999";
        assert_eq!(error(&format!("edge_id={large}")), format!("{number} \"{large}\": value out of range"));
        assert!(error("page=x").starts_with("parsing field \"page\": strconv.ParseInt: "));
    }
}
