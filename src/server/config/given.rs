//! A value as it was given, in a file or in the environment, before it is known whether it is one that its key allows.
#![forbid(unsafe_code)]

use crate::server::log::Level;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// One value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Given {
    Flag(bool),
    Whole(i128),
    Fraction(f64),
    Text(String),
    List(Vec<Given>),
    /// From the environment: may stand for any of the others.
    Raw(String),
    /// What no setting is: a table, a date.
    Odd(&'static str),
}

impl fmt::Display for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => write!(f, "{flag}"),
            Self::Whole(number) => write!(f, "{number}"),
            Self::Fraction(number) => write!(f, "{number}"),
            Self::Text(text) | Self::Raw(text) => write!(f, "{text:?}"),
            Self::List(list) => {
                f.write_str("[")?;
                for (item, at) in list.iter().zip(0..) {
                    write!(f, "{}{item}", if at > 0 { ", " } else { "" })?;
                }
                f.write_str("]")
            }
            Self::Odd(what) => f.write_str(what),
        }
    }
}

impl<'de> Deserialize<'de> for Given {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Seen)
    }
}

struct Seen;

impl<'de> Visitor<'de> for Seen {
    type Value = Given;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E: Error>(self, flag: bool) -> Result<Given, E> {
        Ok(Given::Flag(flag))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Given, E> {
        Ok(Given::Whole(number.into()))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Given, E> {
        Ok(Given::Whole(number.into()))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Given, E> {
        Ok(Given::Fraction(number))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Given, E> {
        Ok(Given::Text(text.to_owned()))
    }

    fn visit_unit<E: Error>(self) -> Result<Given, E> {
        Ok(Given::Odd("nothing"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Given, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Given::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Given, A::Error> {
        while entries.next_entry::<String, Given>()?.is_some() {}
        Ok(Given::Odd("a table"))
    }
}

/// What a setting may hold. `None` when the value is of no use to it; its range is looked at later.
pub(super) trait Setting: Sized {
    fn read(given: &Given) -> Option<Self>;

    /// As an error shows it.
    fn show(&self) -> String;
}

impl Setting for bool {
    fn read(given: &Given) -> Option<Self> {
        match given {
            Given::Flag(flag) => Some(*flag),
            Given::Raw(text) => match text.as_str() {
                "true" | "yes" | "on" | "1" => Some(true),
                "false" | "no" | "off" | "0" => Some(false),
                _ => None,
            },
            _ => None,
        }
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

/// A number of things.
impl Setting for u32 {
    fn read(given: &Given) -> Option<Self> {
        match given {
            Given::Whole(number) => Self::try_from(*number).ok(),
            Given::Raw(text) => text.parse().ok(),
            _ => None,
        }
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

/// A number of bytes; as a text it may end in K, M or G, which are powers of 1024.
impl Setting for u64 {
    fn read(given: &Given) -> Option<Self> {
        match given {
            Given::Whole(number) => Self::try_from(*number).ok(),
            Given::Text(text) | Given::Raw(text) => {
                let unit = |last, shift| text.strip_suffix(last).map(|number| (number, shift));
                let (number, shift) = unit('K', 10).or(unit('M', 20)).or(unit('G', 30)).unwrap_or((text.as_str(), 0));
                Self::from_str_radix(number, 10).ok()?.checked_mul(1 << shift)
            }
            _ => None,
        }
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

/// A number is seconds; a text ends in ms, s, m, h or d.
impl Setting for Duration {
    fn read(given: &Given) -> Option<Self> {
        match given {
            Given::Whole(seconds) => u64::try_from(*seconds).ok().map(Self::from_secs),
            Given::Fraction(seconds) => Self::try_from_secs_f64(*seconds).ok(),
            Given::Text(text) | Given::Raw(text) => {
                let unit = |last, seconds| text.strip_suffix(last).map(|number| (number, seconds));
                let found = unit("ms", 0.001).or(unit("s", 1.0)).or(unit("m", 60.0)).or(unit("h", 3600.0));
                let plain = matches!(given, Given::Raw(_)).then_some((text.as_str(), 1.0));
                let (number, seconds) = found.or(unit("d", 86_400.0)).or(plain)?;
                // Of what `f64` reads, "inf" and "1e9" are no numbers that anybody means here.
                let plain = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
                Self::try_from_secs_f64(number.parse::<f64>().ok().filter(|_| plain)? * seconds).ok()
            }
            _ => None,
        }
    }

    fn show(&self) -> String {
        format!("{self:?}")
    }
}

impl Setting for String {
    fn read(given: &Given) -> Option<Self> {
        match given {
            Given::Text(text) | Given::Raw(text) => Some(text.clone()),
            _ => None,
        }
    }

    fn show(&self) -> String {
        format!("{self:?}")
    }
}

impl Setting for PathBuf {
    fn read(given: &Given) -> Option<Self> {
        String::read(given).map(Self::from)
    }

    fn show(&self) -> String {
        format!("{self:?}")
    }
}

impl Setting for Level {
    fn read(given: &Given) -> Option<Self> {
        String::read(given).and_then(|name| Self::named(&name))
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl<T: Setting> Setting for Option<T> {
    fn read(given: &Given) -> Option<Self> {
        T::read(given).map(Some)
    }

    fn show(&self) -> String {
        self.as_ref().map_or_else(|| "not set".to_owned(), T::show)
    }
}

/// In the environment its items stand between commas.
impl<T: Setting> Setting for Vec<T> {
    fn read(given: &Given) -> Option<Self> {
        match given {
            Given::List(list) => list.iter().map(T::read).collect(),
            Given::Raw(text) => text.split(',').map(|item| T::read(&Given::Raw(item.trim().to_owned()))).collect(),
            _ => None,
        }
    }

    fn show(&self) -> String {
        format!("[{}]", self.iter().map(T::show).collect::<Vec<_>>().join(", "))
    }
}
