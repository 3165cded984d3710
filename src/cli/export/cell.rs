//! Records of an export, as JSON and as CSV.

use std::fmt::Write;

/// A value of a record.
pub(super) enum Cell {
    /// No value: `null`, or empty.
    None,
    /// A 64-bit integer: text in JSON, because JavaScript has only 53 bits.
    Long(i64),
    /// A 32-bit integer.
    Integer(i32),
    /// `true` or `false`.
    Flag(bool),
    /// Text, a decimal, a date or a time.
    Text(String),
    /// Records within the record: in CSV as JSON.
    Records(Vec<Record>),
}

/// The named values of a row, in the order of the columns.
pub(super) struct Record(pub(super) Vec<(&'static str, Cell)>);

impl Record {
    /// Appends the record as a line of JSON.
    pub(super) fn json(&self, text: &mut String) {
        self.object(text);
        text.push('\n');
    }

    /// Appends the header of CSV.
    pub(super) fn header(&self, text: &mut String) {
        let names: Vec<_> = self.0.iter().map(|(name, _)| *name).collect();
        text.push_str(&names.join(","));
        text.push('\n');
    }

    /// Appends the record as a row of CSV.
    pub(super) fn csv(&self, text: &mut String) {
        for (index, (_, cell)) in self.0.iter().enumerate() {
            if index > 0 {
                text.push(',');
            }
            cell.csv(text);
        }
        text.push('\n');
    }

    fn object(&self, text: &mut String) {
        text.push('{');
        for (index, (name, cell)) in self.0.iter().enumerate() {
            if index > 0 {
                text.push(',');
            }
            string(name, text);
            text.push(':');
            cell.json(text);
        }
        text.push('}');
    }
}

impl Cell {
    fn json(&self, text: &mut String) {
        match self {
            Self::None => text.push_str("null"),
            // Writing into a string does not fail.
            Self::Long(number) => drop(write!(text, "\"{number}\"")),
            Self::Integer(number) => drop(write!(text, "{number}")),
            Self::Flag(flag) => drop(write!(text, "{flag}")),
            Self::Text(value) => string(value, text),
            Self::Records(records) => {
                text.push('[');
                for (index, record) in records.iter().enumerate() {
                    if index > 0 {
                        text.push(',');
                    }
                    record.object(text);
                }
                text.push(']');
            }
        }
    }

    fn csv(&self, text: &mut String) {
        match self {
            Self::None => {}
            Self::Long(number) => drop(write!(text, "{number}")),
            Self::Integer(_) | Self::Flag(_) => self.json(text),
            Self::Text(value) => quote(value, text),
            Self::Records(_) => {
                let mut json = String::new();
                self.json(&mut json);
                quote(&json, text);
            }
        }
    }
}

/// Appends a string in JSON.
fn string(value: &str, text: &mut String) {
    text.push_str(&serde_json::Value::from(value).to_string());
}

/// Appends a text, in quotes if CSV needs them.
fn quote(value: &str, text: &mut String) {
    if value.contains([',', '"', '\r', '\n']) {
        text.push('"');
        text.push_str(&value.replace('"', "\"\""));
        text.push('"');
    } else {
        text.push_str(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_one_line_of_json_and_one_row_of_csv() {
        let inner = Record(vec![("field", Cell::Text("a\"b".to_owned())), ("old", Cell::None)]);
        let record = Record(vec![
            ("id", Cell::Long(i64::MAX)),
            ("limit", Cell::Integer(-1)),
            ("hidden", Cell::Flag(true)),
            ("date", Cell::None),
            ("comment", Cell::Text("two\nlines, \"quoted\"".to_owned())),
            ("city", Cell::Text("Köln".to_owned())),
            ("changes", Cell::Records(vec![inner])),
        ]);
        let (mut json, mut csv) = (String::new(), String::new());
        record.json(&mut json);
        record.header(&mut csv);
        record.csv(&mut csv);
        assert_eq!(
            json,
            "{\"id\":\"9223372036854775807\",\"limit\":-1,\"hidden\":true,\"date\":null,\
             \"comment\":\"two\\nlines, \\\"quoted\\\"\",\"city\":\"Köln\",\
             \"changes\":[{\"field\":\"a\\\"b\",\"old\":null}]}\n"
        );
        assert_eq!(
            csv,
            "id,limit,hidden,date,comment,city,changes\n\
             9223372036854775807,-1,true,,\"two\nlines, \"\"quoted\"\"\",Köln,\
             \"[{\"\"field\"\":\"\"a\\\"\"b\"\",\"\"old\"\":null}]\"\n"
        );
    }
}
