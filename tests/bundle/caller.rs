// A caller in Rust, by its foreign function interface alone: images of a seed to standard output.
use std::ffi::{c_char, c_void, CStr, CString};
use std::io::Write;

#[repr(C)]
struct Settings {
    size: u32,
    threads: i32,
    batch: i64,
    height: i64,
    width: i64,
    format: u32,
}

#[repr(C)]
struct Request {
    size: u32,
    count: i64,
    seed: u64,
    start: u64,
    truncation: f64,
    labels: *const i64,
    latents: *const f32,
}

extern "C" {
    fn fastgan_open(path: *const c_char, options: *const c_void, model: *mut *mut c_void) -> u32;
    fn fastgan_prepare(model: *mut c_void, settings: *const Settings, session: *mut *mut c_void) -> u32;
    fn fastgan_describe_session(session: *const c_void, program: *mut c_void, bytes: *mut u64) -> u32;
    fn fastgan_generate(session: *mut c_void, request: *const Request, out: *mut c_void, size: usize) -> u32;
    fn fastgan_message() -> *const c_char;
    fn fastgan_release(session: *mut c_void);
    fn fastgan_close(model: *mut c_void);
}

fn check(status: u32) {
    if status != 0 {
        eprintln!("{}", unsafe { CStr::from_ptr(fastgan_message()) }.to_string_lossy());
        std::process::exit(1);
    }
}

fn main() {
    let path = CString::new(std::env::args().nth(1).expect("a bundle")).unwrap();
    let (mut model, mut session) = (std::ptr::null_mut(), std::ptr::null_mut());
    let settings = Settings { size: 0, threads: 1, batch: 0, height: 0, width: 0, format: 1 };
    let request = Request {
        size: 0,
        count: 2,
        seed: 11,
        start: 0,
        truncation: 0.0,
        labels: std::ptr::null(),
        latents: std::ptr::null(),
    };
    unsafe {
        check(fastgan_open(path.as_ptr(), std::ptr::null(), &mut model));
        check(fastgan_prepare(model, &settings, &mut session));
        let mut bytes = 0u64;
        check(fastgan_describe_session(session, std::ptr::null_mut(), &mut bytes));
        let mut images = vec![0u8; 2 * bytes as usize];
        check(fastgan_generate(session, &request, images.as_mut_ptr() as *mut c_void, images.len()));
        std::io::stdout().write_all(&images).unwrap();
        fastgan_release(session);
        fastgan_close(model);
    }
}
