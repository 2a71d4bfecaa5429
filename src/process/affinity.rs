//! On which processors a process runs.
#![forbid(unsafe_code)]

use crate::sys::processors;
use crate::{Error, Result};
use std::fmt;
use std::str::FromStr;

/// Processors, at least one, each of which this process may use.
///
/// Which ones it may use is what it was given: by whoever started it (`taskset`, a container), or by itself. It is written as the kernel writes it.
///
/// # Examples
/// ```
/// use commons::process::Cpus;
/// let all = Cpus::allowed()?;
/// let first = all.nth(0);
/// assert_eq!(first.list().len(), 1);
/// assert_eq!(all.nth(all.list().len()), first, "more places than processors begin anew");
/// assert_eq!(first, first.to_string().parse()?);
/// # Ok::<(), commons::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cpus {
    /// In rising order, each once.
    list: Vec<usize>,
}

impl Cpus {
    /// All that the calling thread may use.
    ///
    /// # Errors
    /// [`Error::System`] on a machine with more than 1024 of them.
    pub fn allowed() -> Result<Cpus> {
        Ok(Cpus { list: processors::allowed().map_err(Error::system("sched_getaffinity"))? })
    }

    /// These.
    ///
    /// # Errors
    /// [`Error::Cpu`] names one that does not exist or that the calling thread may not use; [`Error::OutOfRange`] when none is given.
    pub fn of(cpus: impl IntoIterator<Item = usize>) -> Result<Cpus> {
        Self::among(&Self::allowed()?, processors::online().as_deref(), cpus)
    }

    fn among(allowed: &Cpus, online: Option<&str>, cpus: impl IntoIterator<Item = usize>) -> Result<Cpus> {
        let mut list = Vec::new();
        for cpu in cpus {
            if !allowed.list.contains(&cpu) {
                // Where the machine does not tell what it has, it has what this process may use.
                let online = online.and_then(ranges).is_some_and(|all| all.iter().any(|range| range.contains(&cpu)));
                return Err(Error::Cpu { cpu, online, allowed: allowed.to_string() });
            }
            list.push(cpu);
        }
        list.sort_unstable();
        list.dedup();
        if list.is_empty() {
            return Err(Error::OutOfRange {
                what: "the number of CPUs",
                value: 0,
                min: 1,
                max: allowed.list.len() as u64,
            });
        }
        Ok(Cpus { list })
    }

    /// The one for place `k`: the k-th of them, from 0 on, and over again when there are more places than processors.
    #[must_use]
    pub fn nth(&self, k: usize) -> Cpus {
        Cpus { list: self.list.get(k % self.list.len().max(1)).copied().into_iter().collect() }
    }

    /// Their numbers, in rising order.
    #[must_use]
    pub fn list(&self) -> &[usize] {
        &self.list
    }

    /// Has the calling thread, and what it starts and forks from now on, use these alone.
    ///
    /// # Errors
    /// [`Error::Cpu`] when one of them was taken away meanwhile; [`Error::System`].
    pub fn confine(&self) -> Result<()> {
        processors::confine(&self.list).map_err(Error::system("sched_setaffinity"))?;
        // The kernel leaves out silently what a cgroup does not allow.
        Self::of(self.list.iter().copied()).map(drop)
    }
}

/// The ranges of a list like `0-3,8`; `None` when it is none.
fn ranges(text: &str) -> Option<Vec<std::ops::RangeInclusive<usize>>> {
    let number = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten();
    text.split(',')
        .map(|part| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (number(first)?, number(last)?);
            (first <= last).then_some(first..=last)
        })
        .collect()
}

impl FromStr for Cpus {
    type Err = Error;

    fn from_str(text: &str) -> Result<Cpus> {
        let ranges = ranges(text).ok_or_else(|| Error::CpuList { text: text.into() })?;
        // The first that is not allowed ends it, so a range to the end of all numbers is not walked through.
        Cpus::of(ranges.into_iter().flatten())
    }
}

impl fmt::Display for Cpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for run in self.list.chunk_by(|a, b| a + 1 == *b) {
            if let [first, .., last] = run {
                write!(f, "{separator}{first}-{last}")?;
            } else if let [only] = run {
                write!(f, "{separator}{only}")?;
            }
            separator = ",";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpus(list: &[usize]) -> Cpus {
        Cpus { list: list.into() }
    }

    #[test]
    fn lists_are_written_as_the_kernel_writes_them() {
        for (list, text) in
            [(&[0][..], "0"), (&[0, 1], "0-1"), (&[0, 1, 2, 3, 8], "0-3,8"), (&[1, 3, 4, 9, 10], "1,3-4,9-10")]
        {
            assert_eq!(cpus(list).to_string(), text);
            let read: Vec<usize> = ranges(text).unwrap().into_iter().flatten().collect();
            assert_eq!(read, list);
        }
        for text in ["", "a", "1-", "-1", "3-1", "1,,2", "+1", "1 ", "0x1", "99999999999999999999"] {
            assert!(ranges(text).is_none(), "{text:?}");
            assert!(text.parse::<Cpus>().unwrap_err().to_string().contains("is no list of CPUs"));
        }
    }

    #[test]
    fn what_cannot_be_used_is_refused_by_name() {
        let among = |list: &[usize]| Cpus::among(&cpus(&[2, 3, 5]), Some("0-7"), list.iter().copied());
        assert_eq!(among(&[5, 2, 5]).unwrap(), cpus(&[2, 5]));
        let said = |list: &[usize]| among(list).unwrap_err().to_string();
        assert_eq!(said(&[2, 4]), "CPU 4 is not for this process to use; this process may use 2-3,5");
        assert_eq!(said(&[8]), "CPU 8 does not exist; this process may use 2-3,5");
        assert_eq!(said(&[]), "the number of CPUs is 0, allowed are 1..=3");
        assert!(matches!("0-18446744073709551615".parse::<Cpus>(), Err(Error::Cpu { .. })));
        assert!(matches!(Cpus::of([5000]), Err(Error::Cpu { cpu: 5000, online: false, .. })));
    }

    #[test]
    fn places_are_spread_over_what_is_allowed() {
        let allowed = cpus(&[2, 3, 5]);
        let spread: Vec<_> = (0..7).map(|k| allowed.nth(k).list[0]).collect();
        assert_eq!(spread, [2, 3, 5, 2, 3, 5, 2]);
    }
}
