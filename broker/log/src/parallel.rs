//! The same work for many items, on a few threads.

use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Runs `work` for every item on at most `threads_max` threads, the calling one among them. Returns the results in the
/// order of the items.
pub fn in_parallel<T: Sync, R: Send>(items: &[T], threads_max: usize, work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    run(items, threads_max, work, |_| false)
}

/// Like [`in_parallel`], and begins no item after a failure. Returns the first failure in the order of the items.
pub fn try_in_parallel<T: Sync, R: Send, E: Send>(
    items: &[T],
    threads_max: usize,
    work: impl Fn(&T) -> Result<R, E> + Sync,
) -> Result<Vec<R>, E> {
    run(items, threads_max, work, Result::is_err).into_iter().collect()
}

fn run<T: Sync, R: Send>(
    items: &[T],
    threads_max: usize,
    work: impl Fn(&T) -> R + Sync,
    is_last: impl Fn(&R) -> bool + Sync,
) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let worker = || {
        let mut done = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(at) else { return done };
            let result = work(item);
            if is_last(&result) {
                next.store(items.len(), Ordering::Relaxed);
            }
            done.push((at, result));
        }
    };
    let mut done: Vec<(usize, R)> = thread::scope(|scope| {
        let threads: Vec<_> = (1..threads_max.min(items.len())).map(|_| scope.spawn(worker)).collect();
        let mut done = worker();
        for thread in threads {
            done.extend(thread.join().unwrap_or_else(|panic| resume_unwind(panic)));
        }
        done
    });
    done.sort_unstable_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_the_order_of_the_items() {
        let items: Vec<u32> = (0..100).collect();
        for threads in [0, 1, 3, 200] {
            assert_eq!(
                in_parallel(&items, threads, |item| item * 2),
                items.iter().map(|it| it * 2).collect::<Vec<_>>()
            );
        }
        assert!(in_parallel(&[0_u32; 0], 4, |item| *item).is_empty());
    }

    #[test]
    fn no_item_begins_after_a_failure() {
        let begun = AtomicUsize::new(0);
        let failing = |item: &u32| {
            begun.fetch_add(1, Ordering::Relaxed);
            Err::<(), u32>(*item)
        };
        let items: Vec<u32> = (0..100).collect();
        assert_eq!(try_in_parallel(&items, 1, failing), Err(0));
        assert_eq!(begun.load(Ordering::Relaxed), 1);
        assert_eq!(try_in_parallel(&items, 4, |item| if *item < 100 { Ok(*item) } else { Err(()) }), Ok(items.clone()));
    }
}
