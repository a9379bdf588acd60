//! The `ringspin` executable: the library's commands with everything that is built in.

fn main() -> std::process::ExitCode {
    ringspin::App::new().main()
}
