package audit_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/audit"
	"github.com/stretchr/testify/require"
)

// A double is a sink that does what a test says.
type double struct {
	mu    sync.Mutex
	seqs  []uint64
	write func(ctx context.Context, e audit.Entry) error // nil accepts
}

func (d *double) Write(ctx context.Context, e audit.Entry) error {
	d.mu.Lock()
	write := d.write
	d.mu.Unlock()
	if write != nil {
		if err := write(ctx, e); err != nil {
			return err
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.seqs = append(d.seqs, e.Seq)
	return nil
}

func (d *double) set(write func(context.Context, audit.Entry) error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.write = write
}

func (d *double) got() []uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.seqs
}

// hang blocks until ctx ends, as a sink should.
func hang(ctx context.Context, _ audit.Entry) error {
	<-ctx.Done()
	return ctx.Err()
}

func fail(context.Context, audit.Entry) error { return errors.New("disk\nfull") }

// TestA6Asynchronous proves that a sink that hangs delays neither a recorder
// nor another sink, and that what it misses is counted.
func TestA6Asynchronous(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hung, well double
		hung.set(hang)
		l := newLog(t, audit.Options{CoalesceWithin: apart, Sinks: []audit.SinkOptions{
			{Name: "hung", Sink: &hung, Queue: 4},
			{Name: "well", Sink: &well},
		}})
		for i := range 10 {
			record(t, l, refused(fmt.Sprint(i), "x"))
			synctest.Wait()
		}
		require.Equal(t, []uint64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, well.got())
		require.Equal(t, []audit.SinkStats{
			{Name: "hung", Queue: 4, Waiting: 5, Dropped: 5},
			{Name: "well", Queue: audit.DefaultSinkQueue, Written: 10},
		}, l.Stats().Sinks)

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := l.Close(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorIs(t, err, audit.ErrUnavailable)
		require.EqualError(t, err, `audit: close: a sink of the audit log is unavailable: sink "hung" did not write 5 entries in time: context deadline exceeded`)
	})
}

// TestSinkMisbehaves proves that no error, panic or end of a goroutine in a
// sink reaches anybody else, and that the next entry is written.
func TestSinkMisbehaves(t *testing.T) {
	for name, bad := range map[string]func(context.Context, audit.Entry) error{
		"error":          fail,
		"panic":          func(context.Context, audit.Entry) error { panic("sink") },
		"nil panic":      func(context.Context, audit.Entry) error { panic(nil) }, //nolint:govet // a sink may be so broken.
		"Goexit":         func(context.Context, audit.Entry) error { runtime.Goexit(); return nil },
		"error of panic": func(context.Context, audit.Entry) error { return badError{} },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var d double
				d.set(bad)
				l := newLog(t, audit.Options{CoalesceWithin: apart, Sinks: []audit.SinkOptions{{Name: "bad", Sink: &d}}})
				record(t, l, refused("a", "x"))
				record(t, l, refused("a", "x"))
				synctest.Wait()
				d.set(nil)
				record(t, l, refused("a", "x"))
				require.NoError(t, l.Close(t.Context()))
				require.Equal(t, []uint64{3}, d.got())
				require.Equal(t, []audit.SinkStats{{Name: "bad", Queue: 1024, Written: 1, Failed: 2}}, l.Stats().Sinks)
			})
		})
	}
}

type badError struct{}

func (badError) Error() string { panic("error") }

// TestA6MustRecord proves that a required sink that cannot take an entry makes
// Record say so, that the log keeps the entry all the same, and that nothing
// that was queued is lost.
func TestA6MustRecord(t *testing.T) {
	for name, bad := range map[string]func(context.Context, audit.Entry) error{
		"error":  fail,
		"panic":  func(context.Context, audit.Entry) error { panic("sink") },
		"Goexit": func(context.Context, audit.Entry) error { runtime.Goexit(); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var must, other double
				begin := make(chan struct{})
				must.set(func(ctx context.Context, e audit.Entry) error {
					<-begin
					return bad(ctx, e)
				})
				l := newLog(t, audit.Options{CoalesceWithin: time.Hour, Sinks: []audit.SinkOptions{
					{Name: "must", Sink: &must, Required: true},
					{Name: "other", Sink: &other},
				}})
				require.EqualValues(t, 1, record(t, l, refused("a", "x")), "it is taken before the sink fails")
				require.EqualValues(t, 2, record(t, l, refused("b", "x")))
				close(begin)
				synctest.Wait()

				seq, err := l.Record(refused("c", "x"))
				require.ErrorIs(t, err, audit.ErrUnavailable)
				require.ErrorContains(t, err, `the required sink "must" fails`)
				require.NotContains(t, err.Error(), "\n")
				require.EqualValues(t, 3, seq)
				got, _ := l.Get(3)
				require.True(t, got.Unconfirmed)
				require.NotEmpty(t, l.Stats().Sinks[0].Err)

				seq, err = l.Record(refused("c", "y"))
				require.ErrorIs(t, err, audit.ErrUnavailable, "a repeat is not taken either")
				require.EqualValues(t, 3, seq)
				seq, err = l.Record(refused("a", "y"))
				require.ErrorIs(t, err, audit.ErrUnavailable)
				require.EqualValues(t, 4, seq, "what is not confirmed does not join what is")

				must.set(nil)
				<-time.After(100 * time.Millisecond) // the first try again
				synctest.Wait()
				require.Equal(t, []uint64{1, 2, 3, 4}, must.got(), "what was queued is written, in order")
				require.EqualValues(t, 5, record(t, l, refused("d", "x")))
				require.NoError(t, l.Close(t.Context()))
				require.Equal(t, []uint64{1, 2, 3, 4, 5, 3}, must.got(), "3 was repeated")
				require.Equal(t, must.got(), other.got())
				require.Empty(t, l.Stats().Sinks[0].Err)
			})
		})
	}
}

// TestMustRecordFull proves that a required sink with a full queue takes
// nothing more, and that one actor cannot fill the queue of all.
func TestMustRecordFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		var d double
		d.set(func(context.Context, audit.Entry) error { <-release; return nil })
		l := newLog(t, audit.Options{CoalesceWithin: apart, Sinks: []audit.SinkOptions{{Name: "slow", Sink: &d, Queue: 4, Required: true}}})
		try := func(actor string, admin bool) bool {
			e := refused(actor, "x")
			e.Admin = admin
			_, err := l.Record(e)
			if err != nil {
				require.ErrorIs(t, err, audit.ErrUnavailable)
				require.ErrorContains(t, err, `the queue of the required sink "slow" has no room`)
			}
			synctest.Wait()
			return err == nil
		}
		require.True(t, try("flood", false)) // being written
		require.True(t, try("flood", false))
		require.True(t, try("flood", false))
		require.False(t, try("flood", false), "its half is full")
		require.True(t, try("quiet", false))
		require.True(t, try("flood", true), "admin entries have no share")
		require.False(t, try("quiet", false), "the queue is full")
		require.False(t, try("host", true))

		close(release)
		synctest.Wait()
		require.True(t, try("flood", false))
		require.NoError(t, l.Close(t.Context()))
		require.Equal(t, []uint64{1, 2, 3, 5, 6, 9}, d.got())
		st := l.Stats().Sinks[0]
		require.EqualValues(t, 3, st.Dropped)
		require.EqualValues(t, l.Stats().Recorded, st.Written+st.Dropped)
	})
}

// TestMustRecordRetries proves that a required sink is tried again more and
// more seldom.
func TestMustRecordRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var tries []time.Duration
		l := newLog(t, audit.Options{Sinks: []audit.SinkOptions{{Name: "must", Required: true, Sink: audit.SinkFunc(
			func(context.Context, audit.Entry) error {
				tries = append(tries, time.Since(start).Round(time.Millisecond))
				return errors.New("no")
			})}}})
		record(t, l, refused("a", "x"))
		<-time.After(20 * time.Second)
		synctest.Wait()
		require.Equal(t, []time.Duration{
			0, 100 * time.Millisecond, 300 * time.Millisecond, 700 * time.Millisecond, 1500 * time.Millisecond,
			3100 * time.Millisecond, 6300 * time.Millisecond, 11300 * time.Millisecond, 16300 * time.Millisecond,
		}, tries)

		err := l.Close(canceled())
		require.ErrorIs(t, err, context.Canceled)
		require.ErrorContains(t, err, `sink "must" did not write 1 entries in time`)
		now := time.Now()
		err = l.Close(t.Context())
		require.ErrorIs(t, err, audit.ErrUnavailable, "a second Close waits, and says the same")
		require.Equal(t, now, time.Now(), "nothing is tried again")
		require.NotErrorIs(t, err, context.Canceled)
		require.EqualValues(t, 1, l.Stats().Sinks[0].Dropped)
	})
}

// TestCloseFlushes proves that Close writes what is queued, and that a slow sink
// is given the time that ctx allows.
func TestCloseFlushes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d double
		d.set(func(context.Context, audit.Entry) error { <-time.After(time.Second); return nil })
		l := newLog(t, audit.Options{CoalesceWithin: apart, Sinks: []audit.SinkOptions{{Name: "slow", Sink: &d}}})
		for range 10 {
			record(t, l, refused("a", "x"))
		}
		require.NoError(t, l.Close(t.Context()))
		require.Len(t, d.got(), 10)
	})
}

// TestCloseLeavesAHungSink proves that Close returns when ctx ends, even if a
// sink does not heed its context.
func TestCloseLeavesAHungSink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		var d double
		d.set(func(context.Context, audit.Entry) error { <-release; return nil })
		l := newLog(t, audit.Options{CoalesceWithin: apart, Sinks: []audit.SinkOptions{{Name: "deaf", Sink: &d}}})
		record(t, l, refused("a", "x"))
		record(t, l, refused("a", "x"))
		synctest.Wait()
		require.ErrorContains(t, l.Close(canceled()), "did not write 2 entries in time")
		close(release)
		require.ErrorContains(t, l.Close(t.Context()), "did not write 1 entries", "the one that hung was written in the end")
		require.Equal(t, []uint64{1}, d.got())
	})
}

// TestSinkMayUseTheLog proves that no lock is held while a sink writes.
func TestSinkMayUseTheLog(t *testing.T) {
	var l *audit.Log
	l = newLog(t, audit.Options{Sinks: []audit.SinkOptions{{Name: "reader", Sink: audit.SinkFunc(
		func(_ context.Context, e audit.Entry) error {
			if _, ok := l.Get(e.Seq); !ok {
				return errors.New("not found")
			}
			l.Stats()
			_, err := l.Record(audit.Entry{Event: "sink.wrote", Actor: "host"})
			if errors.Is(err, plugbus.ErrClosed) {
				return nil
			}
			return err
		})}}})
	record(t, l, refused("a", "x"))
	require.NoError(t, l.Close(t.Context()))
	require.Zero(t, l.Stats().Sinks[0].Failed)
}

// TestTroubleIsLogged proves that the host hears of a failing sink, but not
// once for each entry, and that a logger that misbehaves harms nobody.
func TestTroubleIsLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		var d double
		d.set(fail)
		l := newLog(t, audit.Options{
			CoalesceWithin: apart,
			Sinks:          []audit.SinkOptions{{Name: "file", Sink: &d}},
			Logger:         slog.New(slog.NewTextHandler(&out, nil)),
		})
		for range 200 {
			record(t, l, refused("a", "x"))
			<-time.After(100 * time.Millisecond)
		}
		require.NoError(t, l.Close(t.Context()))
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		require.Len(t, lines, 2, "in 20 seconds")
		require.Contains(t, lines[0], `level=ERROR msg="audit sink: a write failed" sink=file why=disk\nfull failed=1 dropped=0`)
		require.Contains(t, lines[1], "failed=101")
	})
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		l := newLog(t, audit.Options{
			Sinks:  []audit.SinkOptions{{Name: "file", Sink: audit.SinkFunc(fail)}},
			Logger: slog.New(hangingHandler{release}),
		})
		record(t, l, refused("a", "x"))
		synctest.Wait()
		require.ErrorContains(t, l.Close(canceled()), `the logger that was told about sink "file" has not returned`)
		close(release) // and it panics
		require.NoError(t, l.Close(t.Context()))
	})
}

type hangingHandler struct{ release chan struct{} }

func (h hangingHandler) Enabled(context.Context, slog.Level) bool { return true }

func (h hangingHandler) Handle(context.Context, slog.Record) error {
	<-h.release
	panic("logger")
}
func (h hangingHandler) WithAttrs([]slog.Attr) slog.Handler { return h }
func (h hangingHandler) WithGroup(string) slog.Handler      { return h }
