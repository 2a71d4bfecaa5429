use std::time::Instant;
fn main() {
    let c = commons::Channel::new(1 << 20).unwrap();
    let n = 20_000_000u64;
    let m = [7u8; 64];
    let t = Instant::now();
    let mut v = Vec::new();
    for _ in 0..2_000_000 {
        c.push(&m).unwrap();
        c.pop_into(&mut v).unwrap();
    }
    println!("single thread push+pop {:.1} ns", t.elapsed().as_nanos() as f64 / 2e6);
    let t = Instant::now();
    std::thread::scope(|s| {
        s.spawn(|| {
            for _ in 0..n {
                c.push(&m).unwrap()
            }
        });
        let mut v = Vec::new();
        for _ in 0..n {
            c.pop_into(&mut v).unwrap();
        }
    });
    println!("1p1c {:.1} M/s", n as f64 / t.elapsed().as_secs_f64() / 1e6);
    let t = Instant::now();
    let batch = vec![m; 64];
    std::thread::scope(|s| {
        s.spawn(|| {
            for _ in 0..n / 64 {
                c.push_many(&batch).unwrap()
            }
        });
        let mut got = 0;
        while got < n / 64 * 64 {
            let k = c.drain(256, |_| ()).unwrap();
            got += k as u64;
            if k == 0 {
                std::hint::spin_loop()
            }
        }
    });
    println!("batched {:.1} M/s", n as f64 / t.elapsed().as_secs_f64() / 1e6);
}
