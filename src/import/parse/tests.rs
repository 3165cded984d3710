//! Tests of the conversions.

use super::*;

#[test]
fn texts_of_databases_become_values() {
    let day = |text: &str| Ok(Value::Date(text.parse().unwrap()));
    for (field, text, expected) in [
        (Field::block_date, "0000-00-00", Ok(Value::None)),
        (Field::block_date, "0000-00-00 00:00:00", Ok(Value::None)),
        (Field::block_date, "", Ok(Value::None)),
        (Field::block_date, "2026-12-31", day("2026-12-31")),
        (Field::block_date, "2026-12-31 00:00:00", day("2026-12-31")),
        (Field::block_date, "2020-00-00", Err("is a partial date")),
        (Field::block_date, "2026-12-31 12:00:00", Err("must be a day without a time of day")),
        (Field::blocked, "1", Ok(Value::Flag(true))),
        (Field::blocked, "0", Ok(Value::Flag(false))),
        (Field::blocked, "2", Ok(Value::Flag(false))),
        (Field::hidden, "true", Ok(Value::Flag(true))),
        (Field::hidden, "2", Err("must be 0 or 1")),
        (Field::tax1_value, " 19,95 ", Ok(Value::Micros(19_950_000))),
        (Field::tax1_value, "19.950000000000000", Ok(Value::Micros(19_950_000))),
        (Field::tax1_value, "-1", Err(Field::tax1_value.allowed())),
        (Field::tax1_value, "0.0000001", Err(Field::tax1_value.allowed())),
        (Field::call_limit, " 7 ", Ok(Value::Integer(7))),
        (Field::city, "York ", Ok(Value::Text("York ".to_owned()))),
        (Field::responsible_manager_id, "-1", Ok(Value::None)),
        (Field::currency_id, "0", Err(Field::currency_id.allowed())),
    ] {
        assert_eq!(detail(field, text), expected, "{} {text:?}", field.name());
    }
}
