//! Choices that have a name: one list serves files, flags, messages and the schema.

/// A word that is not the name of a choice.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no {what} `{found}`; expected {}", in_words(.expected, "or"))]
pub struct UnknownName {
    /// The kind of choice: a space, a method.
    pub what: &'static str,
    pub found: String,
    /// All names.
    pub expected: Vec<&'static str>,
}

/// `a, b and c`, or with `or` before the last.
pub(crate) fn in_words(names: &[&str], conjunction: &str) -> String {
    match names {
        [] => String::new(),
        [only] => (*only).to_owned(),
        [first @ .., last] => format!("{} {conjunction} {last}", first.join(", ")),
    }
}

/// Reads and writes the values of an enumeration with `ALL` and `name` by their names: as text, in
/// files and in their schema.
macro_rules! by_name {
    ($choice:ident, $what:literal, $description:literal) => {
        impl std::fmt::Display for $choice {
            fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.pad(self.name())
            }
        }

        impl std::str::FromStr for $choice {
            type Err = crate::names::UnknownName;

            fn from_str(name: &str) -> Result<Self, Self::Err> {
                let mut all = Self::ALL.into_iter();
                all.find(|choice| choice.name() == name)
                    .ok_or_else(|| crate::names::UnknownName {
                        what: $what,
                        found: name.to_owned(),
                        expected: Self::ALL.map(Self::name).to_vec(),
                    })
            }
        }

        impl serde::Serialize for $choice {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.name())
            }
        }

        impl<'de> serde::Deserialize<'de> for $choice {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let name = String::deserialize(deserializer)?;
                name.parse().map_err(serde::de::Error::custom)
            }
        }

        impl schemars::JsonSchema for $choice {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($choice).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({
                    "description": $description,
                    "type": "string",
                    "enum": Self::ALL.map(Self::name),
                })
            }
        }
    };
}

pub(crate) use by_name;

#[cfg(test)]
mod tests {
    use crate::{MethodKind, Scope, Space};

    #[test]
    fn every_name_is_read_as_it_is_written_in_text_and_in_files() {
        for kind in MethodKind::ALL {
            assert_eq!(kind.to_string().parse(), Ok(kind));
            let json = serde_json::to_string(&kind).expect("a string");
            assert_eq!(json, format!("\"{kind}\""));
            assert_eq!(
                serde_json::from_str::<MethodKind>(&json).expect("a kind"),
                kind
            );
        }
        assert_eq!("knots".parse(), Ok(Space::Knots));
        assert_eq!("model".parse(), Ok(Scope::Model));
    }

    #[test]
    fn an_unknown_name_is_told_with_those_that_there_are() {
        let error = "dense".parse::<Space>().expect_err("no such space");
        let message = error.to_string();
        assert_eq!(
            message,
            "there is no space `dense`; expected full, knots or core"
        );
    }

    #[test]
    fn the_schema_has_the_words_of_the_files() {
        let schema = schemars::schema_for!(MethodKind);
        let expected = serde_json::json!([
            "average",
            "sum",
            "ties",
            "dare",
            "dare-ties",
            "tsv",
            "cart",
            "iso-cts",
            "robust"
        ]);
        assert_eq!(schema.as_value()["enum"], expected);
    }
}
