//! An answer that is there already or comes later.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::task::{Context, Poll};

use super::BoxFuture;

/// An answer that is usually there at once; only the other case is boxed.
pub enum Later<T> {
    /// The answer.
    Now(T),
    /// The answer comes from this future.
    Then(BoxFuture<T>),
}

impl<T> std::fmt::Debug for Later<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Now(_) => "Now",
            Self::Then(_) => "Then",
        })
    }
}

impl<T: Unpin> IntoFuture for Later<T> {
    type Output = T;
    type IntoFuture = LaterFuture<T>;

    fn into_future(self) -> LaterFuture<T> {
        match self {
            Self::Now(value) => LaterFuture::Now(Some(value)),
            Self::Then(future) => LaterFuture::Then(future),
        }
    }
}

/// The future of a [`Later`].
pub enum LaterFuture<T> {
    /// The answer, until it is taken.
    Now(Option<T>),
    /// The future that brings it.
    Then(BoxFuture<T>),
}

impl<T> std::fmt::Debug for LaterFuture<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LaterFuture")
    }
}

impl<T: Unpin> Future for LaterFuture<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        match &mut *self {
            // A future is not polled again after it is ready; pending is the harmless answer.
            Self::Now(value) => value.take().map_or(Poll::Pending, Poll::Ready),
            Self::Then(future) => future.as_mut().poll(context),
        }
    }
}
