//! Sections of the configuration: serde structs that are also the reference of their keys.

/// A configuration key.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// The path in the configuration file.
    pub path: &'static str,
    /// The default value; empty for none.
    pub default: &'static str,
    /// Whether the value must not be shown.
    pub secret: bool,
    /// The help text.
    pub help: &'static str,
}

impl Key {
    /// The environment variable.
    pub fn variable(&self) -> String {
        format!("{VARIABLE_PREFIX}{}", self.path.replace('.', "_").to_uppercase())
    }

    /// The section; empty for a key outside sections.
    pub(super) fn section(&self) -> &'static str {
        self.path.split_once('.').map_or("", |(section, _)| section)
    }
}

/// The prefix of environment variables.
pub(super) const VARIABLE_PREFIX: &str = "M4_";

/// Declares a section. Each field is a key: its doc comment is the help text, and the literal is
/// the default. Fields after `..` are sections within this one.
macro_rules! section {
    (
        $(#[doc = $about:literal])+
        $name:ident($prefix:literal) {
            $($(#[doc = $help:literal])+ $key:ident: $type:ty = $default:literal,)+
            $(..$section:ident: $struct:ty,)*
        }
    ) => {
        $(#[doc = $about])+
        #[derive(serde::Deserialize)]
        #[serde(expecting = "a table")]
        pub(super) struct $name {
            $(
                $(#[doc = $help])+
                #[serde(deserialize_with = "crate::config::value::deserialize")]
                pub(super) $key: $type,
            )+
            $(pub(super) $section: $struct,)*
        }

        impl $name {
            /// The keys outside and inside inner sections.
            pub(super) const KEYS: &[&[$crate::config::Key]] = &[
                &[$($crate::config::Key {
                    path: concat!($prefix, stringify!($key)),
                    default: $default,
                    secret: <$type as $crate::config::value::Parse>::SECRET,
                    help: concat!($($help),+).trim_ascii(),
                }),+],
                $(<$struct>::KEYS[0]),*
            ];
        }
    };
}
pub(super) use section;
