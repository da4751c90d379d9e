//! Many requests of one thread under way at once, taken back in the order in which they finish.
//!
//! A request is a future, and needs no runtime: whoever finishes it wakes the waker that polled it. Here a waker puts the
//! number of its slot into a channel, and the thread that owns the window waits at the other end.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::task::{Context, Poll, Wake, Waker};

/// Requests `F` under way, each with a tag `T` that says what it is for.
pub struct Window<F: Future, T> {
    slots: Vec<Option<(F, T)>>,
    wakers: Vec<Waker>,
    free: Vec<usize>,
    woken: Receiver<usize>,
    /// Those that were finished when they began.
    finished: VecDeque<(F::Output, T)>,
}

impl<F: Future + Unpin, T> Window<F, T> {
    /// Room for `size` requests.
    ///
    /// # Panics
    /// When `size` is zero.
    #[must_use]
    pub fn new(size: usize) -> Self {
        assert!(size > 0, "a window without slots never finishes anything");
        let (sender, woken) = mpsc::channel();
        let waker = |slot| Waker::from(Arc::new(SlotWaker { slot, woken: sender.clone() }));
        Self {
            slots: (0..size).map(|_| None).collect(),
            wakers: (0..size).map(waker).collect(),
            free: (0..size).rev().collect(),
            woken,
            finished: VecDeque::new(),
        }
    }

    /// Whether nothing is under way or waits to be taken back.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.free.len() == self.slots.len() && self.finished.is_empty()
    }

    /// Whether another request finds no room.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.free.len() == self.finished.len()
    }

    /// Starts a request.
    ///
    /// # Panics
    /// When the window is full.
    pub fn start(&mut self, mut request: F, tag: T) {
        assert!(!self.is_full(), "a request is started only when there is room");
        let slot = self.free.pop().expect("there is room");
        match Pin::new(&mut request).poll(&mut Context::from_waker(&self.wakers[slot])) {
            Poll::Ready(output) => {
                self.free.push(slot);
                self.finished.push_back((output, tag));
            }
            Poll::Pending => self.slots[slot] = Some((request, tag)),
        }
    }

    /// Blocks until a request has finished. `None` when nothing is under way.
    pub fn finish(&mut self) -> Option<(F::Output, T)> {
        if let Some(finished) = self.finished.pop_front() {
            return Some(finished);
        }
        while !self.is_empty() {
            let slot = self.woken.recv().expect("the window holds its own wakers");
            // A waker may wake more than once, and late: then the slot is empty, or its next request is not ready.
            let Some((mut request, tag)) = self.slots[slot].take() else { continue };
            match Pin::new(&mut request).poll(&mut Context::from_waker(&self.wakers[slot])) {
                Poll::Ready(output) => {
                    self.free.push(slot);
                    return Some((output, tag));
                }
                Poll::Pending => self.slots[slot] = Some((request, tag)),
            }
        }
        None
    }
}

struct SlotWaker {
    slot: usize,
    woken: Sender<usize>,
}

impl Wake for SlotWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // The window may have gone, with its requests under way.
        let _ = self.woken.send(self.slot);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// A request that somebody else finishes.
    #[derive(Clone, Default)]
    struct Promise(Arc<Mutex<(Option<u32>, Option<Waker>)>>);

    impl Promise {
        fn keep(&self, output: u32) {
            let mut state = self.0.lock().unwrap();
            state.0 = Some(output);
            if let Some(waker) = state.1.take() {
                waker.wake();
            }
        }
    }

    impl Future for Promise {
        type Output = u32;

        fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<u32> {
            let mut state = self.0.lock().unwrap();
            state.1 = Some(context.waker().clone());
            state.0.take().map_or(Poll::Pending, Poll::Ready)
        }
    }

    #[test]
    fn requests_come_back_in_the_order_in_which_they_finish() {
        let mut window = Window::new(3);
        let promises: Vec<Promise> = (0..3).map(|_| Promise::default()).collect();
        for (tag, promise) in promises.iter().enumerate() {
            window.start(promise.clone(), tag);
        }
        assert!(window.is_full());
        promises[2].keep(20);
        promises[0].keep(0);
        assert_eq!(window.finish(), Some((20, 2)));
        assert_eq!(window.finish(), Some((0, 0)));
        let at_once = Promise::default();
        at_once.keep(30);
        window.start(at_once, 3);
        assert_eq!(window.finish(), Some((30, 3)));
        assert!(!window.is_empty());
        let last = promises[1].clone();
        let keeper = std::thread::spawn(move || last.keep(10));
        assert_eq!(window.finish(), Some((10, 1)));
        keeper.join().unwrap();
        assert_eq!(window.finish(), None);
    }

    #[test]
    fn what_finished_at_once_keeps_its_room_until_it_is_taken_back() {
        let mut window = Window::new(2);
        let at_once = Promise::default();
        at_once.keep(1);
        window.start(at_once, ());
        assert!(!window.is_full());
        window.start(Promise::default(), ());
        assert!(window.is_full());
        assert_eq!(window.finish(), Some((1, ())));
        assert!(!window.is_full(), "whoever takes a request back has room to start it again");
    }

    #[test]
    fn a_wake_without_reason_finishes_nothing() {
        let mut window = Window::new(1);
        let promise = Promise::default();
        window.start(promise.clone(), ());
        window.wakers[0].wake_by_ref();
        window.wakers[0].wake_by_ref();
        promise.keep(1);
        assert_eq!(window.finish(), Some((1, ())));
        assert_eq!(window.finish(), None);
    }
}
