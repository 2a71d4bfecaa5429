//! Settings that are read again while the server runs: which of them new processes heed, and which would need a restart.
#![forbid(unsafe_code)]

use super::Config;

macro_rules! heeded {
    ($($key:ident),* $(,)?) => {
        impl Config {
            /// Takes over from `new` what a process heeds that is forked from here on.
            pub(crate) fn take_over(&mut self, new: &Config) {
                $(self.$key = new.$key.clone();)*
            }
        }
    };
}

heeded! {
    max_connections, max_request, max_request_grace, task_max_request, task_max_request_grace, heartbeat_idle_time, send_timeout, socket_buffer_size,
    buffer_high_watermark, buffer_low_watermark, kernel_receive_buffer, kernel_send_buffer, tcp_nodelay, tcp_keepalive, tcp_keepalive_idle,
    tcp_keepalive_interval, tcp_keepalive_count, tcp_user_timeout,
}

impl Config {
    /// The keys in which these settings differ from `other`.
    pub(crate) fn differing(&self, other: &Config) -> Vec<String> {
        let of = |config: &Config| match serde_json::to_value(config) {
            Ok(serde_json::Value::Object(all)) => all,
            _ => serde_json::Map::new(),
        };
        let (mine, others) = (of(self), of(other));
        mine.into_iter().filter(|(key, value)| others.get(key) != Some(value)).map(|(key, _)| key).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_heeded_is_taken_over_and_the_rest_is_named() {
        let mut now = Config::default().workers(2).max_request(5);
        let new = Config::default().workers(3).max_request(7).heartbeat_idle_time(std::time::Duration::from_secs(9));
        now.take_over(&new);
        assert_eq!(now.max_request, 7);
        assert_eq!(now.heartbeat_idle_time, new.heartbeat_idle_time);
        assert_eq!(now.differing(&new), ["workers"]);
        assert!(new.differing(&new).is_empty());
    }
}
