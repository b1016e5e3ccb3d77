//! One key of a section or of a sink's table: its help, and functions that read, check and show its
//! value.

use super::rules::{Mismatch, Shape};
use super::value::Raw;

/// A key whose value is a field of `T`.
pub(super) struct Key<T> {
    pub(super) name: &'static str,
    pub(super) doc: &'static [&'static str],
    pub(super) allowed: fn() -> String,
    pub(super) shape: fn() -> Shape,
    /// See [`Rule::example`](super::rules::Rule::example).
    pub(super) example: fn(&str) -> Option<String>,
    /// Checks a value and stores it.
    pub(super) set: fn(&mut T, &Raw<'_>) -> Result<(), Vec<Mismatch>>,
    /// Writes the value in TOML, with secrets masked; `None` if the value is not set.
    pub(super) show: fn(&T) -> Option<String>,
    /// Whether this key has the same value in both. Secrets are compared, too.
    pub(super) same: fn(&T, &T) -> bool,
    /// Copies the value of the second to the first.
    pub(super) copy: fn(&mut T, &T),
}

impl<T: Default> Key<T> {
    /// The key's text in the template: help, allowed values, the remark if there is one, and the
    /// default or an example.
    pub(super) fn explain(&self, remark: Option<&str>) -> String {
        let mut text: String = self.doc.iter().map(|line| format!("#{line}\n")).collect();
        text += &format!("# Allowed: {}.\n", (self.allowed)());
        text.extend(remark.map(|remark| format!("# {remark}\n")));
        match ((self.example)(self.name), (self.show)(&T::default())) {
            (None, Some(default)) => text += &format!("{} = {default}\n", self.name),
            (example, _) => {
                let example = example.unwrap_or_else(|| format!("{} = \"…\"", self.name));
                text.extend(example.lines().map(|line| format!("# {line}\n")));
            }
        }
        text
    }
}

/// Makes the [`Key`] of a field. The key has the field's name unless another name is given.
macro_rules! key {
    (($($name:literal)?) [$($doc:literal)*] $type:ty, $rule:expr, $field:ident $(. $within:ident)?) => {
        $crate::config::key::Key {
            name: $crate::config::key::key!(@name $($name)?, $field $(. $within)?),
            doc: &[$($doc),*],
            allowed: || rules::of_type::<$type>($rule).allowed(),
            shape: || rules::of_type::<$type>($rule).shape(),
            example: |key| rules::of_type::<$type>($rule).example(key),
            set: |all, raw| Ok(all.$field$(.$within)? = rules::of_type::<$type>($rule).read(raw)?),
            show: |all| rules::of_type::<$type>($rule).show(&all.$field$(.$within)?),
            same: |one, other| one.$field$(.$within)? == other.$field$(.$within)?,
            copy: |to, from| to.$field$(.$within)?.clone_from(&from.$field$(.$within)?),
        }
    };
    (@name $name:literal, $($field:tt)*) => { $name };
    (@name , $section:ident . $field:ident) => { stringify!($field) };
    (@name , $field:ident) => { stringify!($field) };
}
pub(super) use key;
