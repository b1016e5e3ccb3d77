//! JSON written in every way that its grammar permits: white space, escapes, repeated keys.

use proptest::collection::vec;
use proptest::prelude::*;

/// A JSON value that keeps repeated keys and the order of keys.
#[derive(Debug, Clone)]
pub enum Json {
    /// A number or a literal, as written.
    Raw(String),
    Text(String),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl Json {
    pub fn text(text: impl ToString) -> Self {
        Self::Text(text.to_string())
    }

    pub fn number(number: u64) -> Self {
        Self::Raw(number.to_string())
    }
}

impl From<serde_json::Value> for Json {
    fn from(value: serde_json::Value) -> Self {
        match value {
            serde_json::Value::String(text) => Self::Text(text),
            serde_json::Value::Array(items) => Self::List(items.into_iter().map(Self::from).collect()),
            serde_json::Value::Object(members) => {
                Self::Object(members.into_iter().map(|(key, value)| (key, value.into())).collect())
            }
            other => Self::Raw(other.to_string()),
        }
    }
}

/// Random choices where JSON allows several forms. After the last choice, the first is used again.
#[derive(Debug, Clone)]
pub struct Style {
    choices: Vec<u8>,
    used: usize,
    /// Whether characters that need no escape may have one.
    pub needless_escapes: bool,
}

pub fn style() -> impl Strategy<Value = Style> {
    (vec(any::<u8>(), 1..200), any::<bool>()).prop_map(|(choices, needless_escapes)| Style {
        choices,
        used: 0,
        needless_escapes,
    })
}

impl Style {
    fn choose<'c, T: ?Sized>(&mut self, options: &[&'c T]) -> &'c T {
        let choice = usize::from(self.choices[self.used % self.choices.len()]);
        self.used += 1;
        options[choice % options.len()]
    }

    pub fn write(&mut self, value: &Json) -> String {
        let mut out = String::new();
        self.value(value, &mut out);
        out
    }

    fn value(&mut self, value: &Json, out: &mut String) {
        self.space(out);
        match value {
            Json::Raw(raw) => out.push_str(raw),
            Json::Text(text) => self.string(text, out),
            Json::List(items) => self.joined('[', items, ']', out, |style, item, out| style.value(item, out)),
            Json::Object(members) => self.joined('{', members, '}', out, |style, (key, value), out| {
                style.space(out);
                style.string(key, out);
                style.space(out);
                out.push(':');
                style.value(value, out);
            }),
        }
        self.space(out);
    }

    fn joined<T>(
        &mut self,
        open: char,
        items: &[T],
        close: char,
        out: &mut String,
        write: impl Fn(&mut Self, &T, &mut String),
    ) {
        out.push(open);
        self.space(out);
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                out.push(',');
            }
            write(self, item, out);
        }
        out.push(close);
    }

    fn space(&mut self, out: &mut String) {
        out.push_str(self.choose(&["", "", "", " ", "\t", "\n", "\r\n  "]));
    }

    fn string(&mut self, text: &str, out: &mut String) {
        out.push('"');
        for character in text.chars() {
            let short = match character {
                '"' => Some("\\\""),
                '\\' => Some("\\\\"),
                '\n' => Some("\\n"),
                '\r' => Some("\\r"),
                '\t' => Some("\\t"),
                '\u{8}' => Some("\\b"),
                '\u{c}' => Some("\\f"),
                '/' if self.needless_escapes => Some("\\/"),
                _ => None,
            };
            let must = needs_escape(character);
            match self.choose(&[&0, &1, &2, &3, &4, &5, &6, &7]) {
                0 if must || self.needless_escapes => self.unicode_escape(character, out),
                _ => match short {
                    Some(short) => out.push_str(short),
                    None if must => self.unicode_escape(character, out),
                    None => out.push(character),
                },
            }
        }
        out.push('"');
    }

    fn unicode_escape(&mut self, character: char, out: &mut String) {
        for unit in character.encode_utf16(&mut [0; 2]) {
            let (lower, upper) = (format!("\\u{unit:04x}"), format!("\\u{unit:04X}"));
            out.push_str(if *self.choose(&[&true, &false]) { &lower } else { &upper });
        }
    }
}

/// Whether JSON permits this character in a string only as an escape.
pub fn needs_escape(character: char) -> bool {
    character < ' ' || character == '"' || character == '\\'
}

/// Strings, many of which mislead a search for quotes, brackets or `"id"`.
pub fn text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        any::<char>().prop_map(|character| character.to_string()),
        "[ -~]{0,8}",
        "[\\x00-\\x1f\\x7f/\u{2028}\u{1f600}é]{1,3}",
        Just("\"".to_owned()),
        Just("\\".to_owned()),
        Just("{[".to_owned()),
        Just("]}".to_owned()),
        Just("\",\"id\":\"".to_owned()),
        "[0-9a-f]{64}",
        Just("id".to_owned()),
    ];
    vec(piece, 0..5).prop_map(|pieces| pieces.concat())
}

/// Any JSON, in which objects often have the names of signed fields.
pub fn any_json() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        prop_oneof![Just("null"), Just("true"), Just("-0.5e+10"), Just("0"), Just("1E999")]
            .prop_map(|raw| Json::Raw(raw.to_owned())),
        text().prop_map(Json::Text),
        "[0-9a-f]{64}".prop_map(Json::Text),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let key = prop_oneof![Just("id".to_owned()), Just("sig".to_owned()), text()];
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Json::List),
            vec((key, inner), 0..4).prop_map(Json::Object)
        ]
    })
}
