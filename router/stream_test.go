package router_test

import (
	"context"
	"fmt"
	"iter"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/router"
)

func handleStream(t testing.TB, c *router.Client, typ string, h router.StreamHandler, options ...router.HandleOption) *router.Route {
	t.Helper()
	route, err := c.HandleStream(typ, h, options...)
	require.NoError(t, err)
	return route
}

// count is the handler of a stream that counts to the payload.
func count(_ context.Context, m router.Message, yield func(any) bool) error {
	for i := range m.Data().(int) {
		if !yield(i) {
			return nil
		}
	}
	return nil
}

// drain reads a stream to its end. It demands that an error is the last element.
func drain(t testing.TB, stream iter.Seq2[router.Response, error]) (chunks []any, err error) {
	t.Helper()
	for chunk, e := range stream {
		require.NoError(t, err, "nothing comes after an error")
		if e != nil {
			require.Equal(t, router.Response{}, chunk)
			err = e
			continue
		}
		require.Equal(t, len(chunks), chunk.Index())
		chunks = append(chunks, chunk.Data())
	}
	return chunks, err
}

// TestStream reads streams of many lengths to their ends.
func TestStream(t *testing.T) {
	for _, n := range []int{0, 1, router.StreamWindow, router.StreamWindow + 1, 100 * router.StreamWindow} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			r := newRouter(t, router.Options{})
			a, b := join(t, r, "a"), join(t, r, "b")
			handleStream(t, b, "count", count)
			chunks, err := drain(t, a.Stream(t.Context(), "b", "count", n))
			require.NoError(t, err)
			require.Len(t, chunks, n)
			for i, chunk := range chunks {
				require.Equal(t, i, chunk)
			}
			require.NoError(t, r.Idle(t.Context()))
			require.Equal(t, plugbus.Ledger{Offered: 1, Accepted: 1, Handled: 1}, r.Ledger(), "a stream is one delivery")
		})
	}
}

// TestStreamChunks looks at what a chunk says.
func TestStreamChunks(t *testing.T) {
	r := newRouter(t, router.Options{})
	a, b := join(t, r, "a"), join(t, r, "b")
	var sent router.Message
	handleStream(t, b, "two", func(_ context.Context, m router.Message, yield func(any) bool) error {
		sent = m
		list := []string{"first"}
		yield(list)
		list[0] = "second" // The first was copied.
		yield(list)
		return nil
	})
	var lists [][]string
	for chunk, err := range a.Stream(t.Context(), "b", "two", nil) {
		require.NoError(t, err)
		require.Equal(t, "b", chunk.From())
		require.Equal(t, sent.ID(), chunk.MessageID())
		require.NotZero(t, chunk.Size())
		mine := chunk.Data().([]string)
		lists = append(lists, mine)
		require.NotSame(t, &mine[0], &chunk.Data().([]string)[0], "each Data is a copy")
	}
	require.Equal(t, [][]string{{"first"}, {"second"}}, lists)
	require.Equal(t, router.KindStream, sent.Kind())
}

// TestStreamBackPressure shows that a handler is never more than the window ahead
// of its reader.
func TestStreamBackPressure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, router.Options{StreamIdle: time.Hour})
		a, b := join(t, r, "a"), join(t, r, "b")
		given := 0
		handleStream(t, b, "fast", func(_ context.Context, _ router.Message, yield func(any) bool) error {
			for yield(given) {
				given++
			}
			return nil
		})
		taken := 0
		for _, err := range a.Stream(t.Context(), "b", "fast", nil) {
			require.NoError(t, err)
			taken++
			synctest.Wait()
			require.Equal(t, taken+router.StreamWindow, given, "all that the window holds, and no more")
			if taken == 3*router.StreamWindow {
				break
			}
		}
	})
}

// TestStreamIdle lets either side wait for the other for too long, with limits of
// its own and with the router's.
func TestStreamIdle(t *testing.T) {
	for _, test := range []struct {
		reader, handler time.Duration // the limits of each; 0 for the router's
		silent          bool          // the handler gives nothing; or else the reader takes nothing
		after           time.Duration // when it ends
		blameless       bool
	}{
		{0, 0, true, time.Minute, false},
		{time.Second, 0, true, time.Second, true},
		{0, time.Second, true, time.Minute, false},
		{0, 0, false, time.Minute, true},
		{time.Second, 0, false, time.Minute, true},
		{0, time.Second, false, time.Second, true},
	} {
		t.Run(fmt.Sprintf("%+v", test), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var failures []router.Failure
				r := newRouter(t, router.Options{StreamIdle: time.Minute, OnFailure: func(f router.Failure) { failures = append(failures, f) }})
				a, b := join(t, r, "a"), join(t, r, "b")
				var handle []router.HandleOption
				var send []router.SendOption
				if test.handler > 0 {
					handle = append(handle, router.Idle(test.handler))
				}
				if test.reader > 0 {
					send = append(send, router.Idle(test.reader))
				}
				start := time.Now()
				var ended time.Duration
				handleStream(t, b, "some", func(ctx context.Context, _ router.Message, yield func(any) bool) error {
					defer func() { ended = time.Since(start) }()
					if test.silent {
						<-ctx.Done()
						require.ErrorIs(t, ctx.Err(), context.Canceled)
						require.False(t, yield(1))
						return nil
					}
					for yield(1) {
						continue
					}
					require.ErrorIs(t, ctx.Err(), context.Canceled, "it has ended when yield says no")
					return nil
				}, handle...)
				chunks := 0
				var last error
				for _, err := range a.Stream(t.Context(), "b", "some", nil, send...) {
					if last = err; err != nil {
						break
					}
					if chunks++; chunks == 1 {
						pass(time.Hour)
					}
				}
				require.NoError(t, r.Idle(t.Context()))
				synctest.Wait()
				e := undelivered(t, last)
				require.ErrorIs(t, e, router.ErrIdle)
				require.True(t, e.Started)
				require.Equal(t, test.after, ended)
				require.Len(t, failures, 1)
				require.Equal(t, test.blameless, failures[0].Blameless)
				require.ErrorIs(t, failures[0].Err, router.ErrIdle)
				if test.silent {
					require.Zero(t, chunks)
					require.Equal(t, plugbus.Abandoned, e.Outcome)
				} else {
					require.Equal(t, 1+router.StreamWindow, chunks, "what was in the window is not lost")
					require.Equal(t, plugbus.Failed, e.Outcome)
				}
			})
		})
	}
}

// TestStreamIdleIsForEachChunk shows that a slow stream may take longer than the
// limit, and that the time that the reader needs for a chunk does not count.
func TestStreamIdleIsForEachChunk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, router.Options{})
		a, b := join(t, r, "a"), join(t, r, "b")
		handleStream(t, b, "slow", func(_ context.Context, _ router.Message, yield func(any) bool) error {
			for i := range 10 {
				pass(900 * time.Millisecond)
				yield(i)
			}
			return nil
		})
		n := 0
		for _, err := range a.Stream(t.Context(), "b", "slow", nil, router.Idle(time.Second)) {
			require.NoError(t, err)
			n++
			pass(5 * time.Second)
		}
		require.Equal(t, 10, n)
	})
}

// TestStreamKeptYield calls yield after the handler has returned, and from several
// goroutines.
func TestStreamKeptYield(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, router.Options{})
		a, b := join(t, r, "a"), join(t, r, "b")
		var kept func(any) bool
		const each, givers = 50, 4
		handleStream(t, b, "crowd", func(_ context.Context, _ router.Message, yield func(any) bool) error {
			kept = yield
			var wg sync.WaitGroup
			for range givers {
				wg.Go(func() {
					for range each {
						require.True(t, yield("one"))
					}
				})
			}
			wg.Wait()
			return nil
		})
		for range 2 { // The second has a delivery of its own.
			chunks, err := drain(t, a.Stream(t.Context(), "b", "crowd", nil))
			require.NoError(t, err)
			require.Len(t, chunks, each*givers)
			require.False(t, kept("late"))
		}
		old := kept
		handleStream(t, b, "other", func(_ context.Context, _ router.Message, yield func(any) bool) error {
			require.False(t, old("into the stream of somebody else"))
			yield("own")
			return nil
		})
		chunks, err := drain(t, a.Stream(t.Context(), "b", "other", nil))
		require.NoError(t, err)
		require.Equal(t, []any{"own"}, chunks)
	})
}

// TestStreamLeftGoroutine leaves a goroutine behind that goes on giving: what the
// handler has said when it returns is the end.
func TestStreamLeftGoroutine(t *testing.T) {
	r := newRouter(t, router.Options{})
	a, b := join(t, r, "a"), join(t, r, "b")
	var wg sync.WaitGroup
	handleStream(t, b, "left", func(_ context.Context, _ router.Message, yield func(any) bool) error {
		wg.Go(func() {
			for i := 0; yield(i); i++ {
				if i > 1e6 {
					t.Error("nobody stops it")
					return
				}
			}
		})
		return nil
	})
	for range 100 {
		_, err := drain(t, a.Stream(t.Context(), "b", "left", nil))
		require.NoError(t, err)
	}
	wg.Wait()
}

// TestStreamTwice ranges over one stream twice.
func TestStreamTwice(t *testing.T) {
	r := newRouter(t, router.Options{})
	a, b := join(t, r, "a"), join(t, r, "b")
	handleStream(t, b, "count", count)
	stream := a.Stream(t.Context(), "b", "count", 3)
	require.Zero(t, r.Sent(), "nothing is sent before the loop begins")
	for range 2 {
		chunks, err := drain(t, stream)
		require.NoError(t, err)
		require.Equal(t, []any{0, 1, 2}, chunks)
	}
	require.EqualValues(t, 2, r.Sent())
	require.NoError(t, r.Idle(t.Context()))
	require.EqualValues(t, 2, r.Ledger().Handled)
}

// TestStreamReaderMeetsEnd has readers give up at the moment at which the handler
// returns: either the stream is whole, or it ends with an error.
func TestStreamReaderMeetsEnd(t *testing.T) {
	r := newRouter(t, router.Options{})
	a, b := join(t, r, "a"), join(t, r, "b")
	for i := range 2000 {
		ctx, cancel := context.WithCancel(t.Context())
		route := handleStream(t, b, "three", func(_ context.Context, _ router.Message, yield func(any) bool) error {
			for i := range 3 {
				yield(i)
			}
			if i%2 == 0 {
				go cancel()
			} else {
				cancel()
			}
			return nil
		})
		chunks, err := drain(t, a.Stream(ctx, "b", "three", nil))
		if err == nil {
			require.Equal(t, []any{0, 1, 2}, chunks, "round %d", i)
		} else {
			require.ErrorIs(t, err, context.Canceled)
		}
		cancel()
		require.NoError(t, r.Idle(t.Context()))
		route.Remove()
	}
	require.EqualValues(t, 2000, r.Ledger().Handled)
}
