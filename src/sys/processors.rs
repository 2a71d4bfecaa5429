//! On which processors a thread may run.

use std::io;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The processors that the calling thread may use, in rising order.
pub(crate) fn allowed() -> io::Result<Vec<usize>> {
    let set = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu)).collect())
}

/// Has the calling thread, and what it starts from now on, use `cpus` alone. Those that cannot be named are an error.
pub(crate) fn confine(cpus: &[usize]) -> io::Result<()> {
    let mut set = CpuSet::new();
    for &cpu in cpus {
        if cpu >= CpuSet::MAX_CPU {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        set.set(cpu);
    }
    Ok(sched_setaffinity(None, &set)?)
}

/// The processors that are there and switched on, as the kernel writes them ("0-3,8").
pub(crate) fn online() -> Option<String> {
    std::fs::read_to_string("/sys/devices/system/cpu/online").ok().map(|text| text.trim().to_owned())
}
