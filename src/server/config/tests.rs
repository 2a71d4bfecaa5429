use super::*;
use crate::server::testing::Scratch;

fn says(config: Result<Config>) -> String {
    let error = config.and_then(|config| config.validate().map(|()| config)).unwrap_err().to_string();
    assert_eq!(error.lines().count(), 1, "{error}");
    error
}

#[track_caller]
fn refused(toml: &str, parts: &[&str]) {
    let error = says(Config::from_toml(toml));
    assert!(parts.iter().all(|part| error.contains(part)), "{toml}: {error}");
}

#[test]
fn what_nobody_sets_is_valid_and_has_a_worker_for_each_processor() {
    let config = Config::default();
    config.validate().unwrap();
    assert_eq!(config.workers as usize, available_parallelism().unwrap().get());
    assert_eq!(Config::from_toml("").unwrap(), config);
    assert_eq!(config.high_watermark(), 8 * MIB / 5 * 4);
}

const ALL: &str = r#"
listen = ["tcp://127.0.0.1:9501", "unix:///run/x.sock"]
workers = 3
task_workers = 2
task_attempts = 5
task_queue_bytes = "128M"
message_queue_bytes = 65536
max_connections = 100
max_request = 1000
max_request_grace = 10
task_max_request = 7
task_max_request_grace = 0
heartbeat_idle_time = "1.5s"
send_timeout = 0.25
socket_buffer_size = "64K"
buffer_high_watermark = "32K"
buffer_low_watermark = 1024
kernel_receive_buffer = "1M"
kernel_send_buffer = 0
backlog = 128
reuse_port = true
unix_mode = 0o660
tcp_nodelay = false
tcp_keepalive = true
tcp_keepalive_idle = "1m"
tcp_keepalive_interval = 10
tcp_keepalive_count = 3
tcp_user_timeout = "100ms"
tcp_defer_accept = 5
tcp_fastopen = 16
stop_grace = "2m"
reload_grace = "1h"
boot_deadline = 3
user = "www-data"
group = "www-data"
chroot = "/srv"
pid_file = "/run/x.pid"
daemonize = true
log_file = "/var/log/x"
log_level = "warning"
cpu_affinity = true
cpu_affinity_ignore = [0, 5]
title = "x: serves"
"#;

#[test]
fn a_file_sets_all_and_the_environment_and_the_builder_set_the_same() {
    let file = Config::from_toml(ALL).unwrap();
    file.validate().unwrap();
    // Every key there is, so that no new one is forgotten here.
    let lines: Vec<_> = ALL.lines().filter_map(|line| line.split_once(" = ")).collect();
    assert_eq!(lines.iter().map(|(key, _)| *key).collect::<Vec<_>>(), Config::KEYS);
    let bare = |value: &str| value.replace(['"', '[', ']'], "").replace("0o660", "432");
    let variables = lines.iter().map(|(key, value)| (format!("COMMONS_{}", key.to_uppercase()), bare(value)));
    assert_eq!(Config::default().with_environment(variables).unwrap(), file);

    let ms = Duration::from_millis;
    let built = Config::default()
        .listen(["tcp://127.0.0.1:9501", "unix:///run/x.sock"])
        .workers(3)
        .task_workers(2)
        .task_attempts(5)
        .task_queue_bytes(128 * MIB)
        .message_queue_bytes(65_536)
        .max_connections(100)
        .max_request(1000)
        .max_request_grace(10)
        .task_max_request(7)
        .task_max_request_grace(0)
        .heartbeat_idle_time(ms(1500))
        .send_timeout(ms(250))
        .socket_buffer_size(64 * KIB)
        .buffer_high_watermark(32 * KIB)
        .buffer_low_watermark(1024)
        .kernel_receive_buffer(MIB)
        .kernel_send_buffer(0)
        .backlog(128)
        .reuse_port(true)
        .unix_mode(0o660)
        .tcp_nodelay(false)
        .tcp_keepalive(true)
        .tcp_keepalive_idle(ms(60_000))
        .tcp_keepalive_interval(ms(10_000))
        .tcp_keepalive_count(3)
        .tcp_user_timeout(ms(100))
        .tcp_defer_accept(ms(5000))
        .tcp_fastopen(16)
        .stop_grace(ms(120_000))
        .reload_grace(HOUR)
        .boot_deadline(ms(3000))
        .user("www-data")
        .group("www-data")
        .chroot("/srv")
        .pid_file("/run/x.pid")
        .daemonize(true)
        .log_file("/var/log/x")
        .log_level(Level::Warning)
        .cpu_affinity(true)
        .cpu_affinity_ignore([0_u32, 5])
        .title("x: serves");
    assert_eq!(built, file);
    let json = serde_json::json!({ "workers": 3, "stop_grace": "2m" });
    let json: Config = serde_json::from_value(json).unwrap();
    assert_eq!((json.workers, json.stop_grace), (3, ms(120_000)));
    assert!(serde_json::to_string(&built).unwrap().contains("\"log_level\":\"warning\""));
}

#[test]
fn unknown_keys_are_named_and_the_one_that_was_meant_too() {
    refused("worker = 2", &["no setting worker", "did you mean workers?"]);
    refused("Workers = 2", &["no setting Workers; did you mean workers?"]);
    refused("[workers]\nn = 1", &["workers is a table", "1..=1024"]);
    let error = says(Config::from_toml("something_else_altogether = 2"));
    assert_eq!(error, "there is no setting something_else_altogether");
    let error = says(Config::default().with_environment([("COMMONS_WORKER", "2"), ("PATH", "/bin")]));
    assert_eq!(error, "there is no setting worker; did you mean workers?");
    Config::default().with_environment([("COMMONS_LONG", "1"), ("OTHER_WORKERS", "x")]).unwrap();
    assert!(
        serde_json::from_str::<Config>("{\"worker\": 2}").unwrap_err().to_string().contains("did you mean workers?")
    );
}

#[test]
fn values_out_of_range_are_named_with_their_range() {
    for (toml, parts) in [
        ("workers = 0", ["workers is 0", "1..=1024"]),
        ("workers = -1", ["workers is -1", "1..=1024"]),
        ("workers = 1025", ["workers is 1025", "1..=1024"]),
        ("workers = 99999999999", ["workers is 99999999999", "1..=1024"]),
        ("workers = '4'", ["workers is \"4\"", "1..=1024"]),
        ("workers = 1.5", ["workers is 1.5", "1..=1024"]),
        ("workers = true", ["workers is true", "1..=1024"]),
        ("task_attempts = 0", ["task_attempts is 0", "1..=31"]),
        ("task_attempts = 32", ["task_attempts is 32", "1..=31"]),
        ("task_queue_bytes = '1Q'", ["task_queue_bytes is \"1Q\"", "64K..=128M"]),
        ("task_queue_bytes = '99999999999999999999G'", ["99999999999999999999G", "64K..=128M"]),
        ("task_queue_bytes = 1", ["task_queue_bytes is 1,", "64K..=128M"]),
        ("stop_grace = '5'", ["stop_grace is \"5\"", "1ms..=1h"]),
        ("stop_grace = '5 parsecs'", ["parsecs", "1ms..=1h"]),
        ("stop_grace = '-1s'", ["\"-1s\"", "1ms..=1h"]),
        ("stop_grace = 'infs'", ["\"infs\"", "1ms..=1h"]),
        ("stop_grace = inf", ["stop_grace is inf", "1ms..=1h"]),
        ("stop_grace = '2h'", ["stop_grace is 7200s", "1ms..=1h"]),
        ("tcp_keepalive = 1", ["tcp_keepalive is 1", "true or false"]),
        ("tcp_keepalive = true\ntcp_keepalive_idle = 0.5", ["tcp_keepalive_idle is 500ms", "whole seconds"]),
        ("log_level = 'INFO'", ["log_level is \"INFO\"", "\"info\""]),
        ("user = ''", ["user is \"\"", "name of a user"]),
        ("user = 'a:b'", ["user is \"a:b\"", "name of a user"]),
        ("chroot = 'srv'", ["chroot is \"srv\"", "absolute"]),
        ("title = \"a\\nb\"", ["title is \"a\\nb\"", "control"]),
        ("unix_mode = 0o1777", ["unix_mode is 1023", "0o777"]),
        ("cpu_affinity = true\ncpu_affinity_ignore = [1, 1]", ["cpu_affinity_ignore is [1, 1]", "once"]),
        ("listen = 'tcp://127.0.0.1:80'", ["listen is \"tcp://127.0.0.1:80\"", "addresses like"]),
        ("listen = ['tcp://127.0.0.1']", ["\"tcp://127.0.0.1\"", "port is missing"]),
        ("workers = 1979-05-27", ["workers is a table", "1..=1024"]),
    ] {
        refused(toml, &parts);
    }
    for value in ["", " 4", "4 ", "four", "4,5", "0x4"] {
        let error = says(Config::default().with_environment([("COMMONS_WORKERS", value)]));
        assert!(error.contains(&format!("workers is {value:?}")) && error.contains("1..=1024"), "{error}");
    }
    let error = says(Ok(Config::default().workers(0).task_attempts(0)));
    assert!(error.contains("workers is 0"), "{error}");
}

#[test]
fn contradictions_are_named() {
    for (toml, parts) in [
        ("listen = ['tcp://127.0.0.1:1', 'tcp://127.0.0.1:1']", ["listen", "each address once"]),
        ("max_request_grace = 5", ["max_request_grace is 5", "no limit of requests"]),
        ("task_max_request = 5", ["task_max_request is 5", "task_workers is 0"]),
        (
            "socket_buffer_size = '1M'\nbuffer_high_watermark = '2M'",
            ["buffer_high_watermark is 2097152", "1..=1048576"],
        ),
        (
            "socket_buffer_size = 10000\nbuffer_low_watermark = 8000",
            ["buffer_low_watermark is 8000", "less than buffer_high_watermark, which is 8000"],
        ),
        ("tcp_keepalive_count = 5", ["tcp_keepalive_count is 5", "tcp_keepalive is true"]),
        ("cpu_affinity_ignore = [1]", ["cpu_affinity_ignore is [1]", "cpu_affinity is false"]),
        ("pid_file = '/a'\nlog_file = '/a'", ["log_file is \"/a\"", "pid_file"]),
        ("daemonize = true\npid_file = 'a'", ["pid_file is \"a\"", "absolute"]),
        ("daemonize = true\nlog_file = 'a'", ["log_file is \"a\"", "absolute"]),
        ("workers = 3\nmax_connections = 2", ["max_connections is 2", "3..="]),
        ("max_connections = 1048576\nworkers = 1", ["max_connections is 1048576", "ulimit -n"]),
    ] {
        // A machine with a limit of a million files would not mind the last one.
        if !toml.starts_with("max_connections") || check::open_files() < 1 << 20 {
            refused(toml, &parts);
        }
    }
    Config::from_toml("pid_file = 'a'").unwrap().validate().unwrap();
}

#[test]
fn what_is_no_toml_is_said_in_one_line_with_its_number() {
    for (toml, line) in [("workers = 1\nlisten = [", "line 2"), ("workers", "line 1"), ("a = 1\n\na = 2", "line 3")] {
        refused(toml, &["no TOML", line]);
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let folder = Scratch::new();
    let path = folder.path("config.toml");
    let error = says(Config::default().with_file(&path));
    assert!(error.contains("config.toml") && error.contains("No such file"), "{error}");
    std::fs::write(&path, "workers = 7").unwrap();
    let config = Config::default().task_workers(2).with_file(&path).unwrap();
    let config = config.with_environment([("COMMONS_TASK_ATTEMPTS", "9")]).unwrap();
    assert_eq!((config.workers, config.task_workers, config.task_attempts), (7, 2, 9));
}

#[test]
fn requests_before_a_replacement_are_the_limit_and_up_to_the_grace_more() {
    let config = Config::default().max_request(100);
    let lots = |config: &Config| (0..1000).map(|lot| config.max_request_by_lot(lot).unwrap()).collect::<Vec<_>>();
    assert_eq!(lots(&config).iter().min().copied().zip(lots(&config).iter().max().copied()), Some((101, 150)));
    assert!(lots(&config.clone().max_request_grace(0)).iter().all(|n| *n == 100));
    assert!(lots(&config.clone().max_request(10)).iter().all(|n| *n == 10));
    assert_eq!(Config::default().max_request_by_lot(7), None);
    assert_eq!(config.task_max_request_by_lot(7), None);
    let most = Config::default().max_request(u32::MAX).max_request_grace(u32::MAX);
    assert!(most.max_request_by_lot(u64::MAX).unwrap() > u64::from(u32::MAX));
}

#[test]
fn connections_follow_from_the_limit_of_open_files() {
    let config = Config::default().workers(4);
    assert_eq!(config.connections(1024), 4 * (1024 - 64));
    assert_eq!(config.connections(u64::MAX), 100_000);
    assert_eq!(config.connections(10), 0, "too few, which validate refuses");
    assert_eq!(config.max_connections(500).connections(1024), 500);
}
