//! Seats kept for `tiphys_api::{discovery, openapi, table}` until they are there.

pub mod table {
    //! Name and age only.
    use jiff::Timestamp;
    use serde_json::{Value, json};
    use tiphys_api::Gvk;

    pub struct Column {
        pub name: &'static str,
        pub kind: &'static str,
        pub format: &'static str,
        pub description: &'static str,
        pub priority: i32,
    }

    const COLUMNS: &[Column] = &[
        Column { name: "Name", kind: "string", format: "name", description: "", priority: 0 },
        Column { name: "Created At", kind: "date", format: "", description: "", priority: 0 },
    ];

    pub fn columns(_: &Gvk) -> &'static [Column] {
        COLUMNS
    }

    pub fn rows(_: &Gvk, value: &Value, _: Timestamp) -> Vec<Value> {
        vec![json!(value["metadata"]["name"]), json!(value["metadata"]["creationTimestamp"])]
    }
}

pub mod openapi {
    //! Nothing.
    use serde_json::Value;

    pub fn v2(_: &str) -> Value {
        Value::Null
    }
    pub fn v3(_: &str, _: &str) -> Option<Value> {
        None
    }
}
