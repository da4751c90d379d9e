//! Who goes first when there is not a processor for everybody.

/// Gives the calling thread less of a processor that others want too; of one that is free it has all. `by` is a niceness: each
/// step is about a fifth of the share less. Where threads have no niceness of their own, nothing happens.
pub(crate) fn lower(by: i32) {
    // By POSIX it is the process that has a niceness. On Linux a thread has.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        // Where even this is forbidden, the thread stays as it is.
        let _ = rustix::process::nice(by);
    }
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let _ = by;
}

#[cfg(all(test, any(target_os = "linux", target_os = "android")))]
mod tests {
    use super::*;

    fn niceness() -> i32 {
        rustix::process::getpriority_process(None).unwrap()
    }

    #[test]
    fn one_thread_is_nicer_and_the_others_are_not() {
        let before = niceness();
        let lowered = std::thread::spawn(|| {
            lower(5);
            niceness()
        });
        assert_eq!((lowered.join().unwrap(), niceness()), ((before + 5).min(19), before));
    }
}
