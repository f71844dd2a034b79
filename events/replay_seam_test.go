package events_test

import (
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/plugbus/plugbus/events"
)

// TestStartAtSeam is E19 with goroutines that run at will: whatever the
// subscription, it gets each event once, and in order unless it is concurrent.
func TestStartAtSeam(t *testing.T) {
	for _, test := range []struct {
		option  events.SubscribeOption
		ordered bool
	}{
		{events.OnOverflow(events.DropOldest), true},
		{events.OnOverflow(events.DropNewest), true},
		{events.OnOverflow(events.RefuseToEmitter), true},
		{events.Fair(), true},
		{events.Concurrent(4), false},
	} {
		t.Run(fmt.Sprintf("%#v", test.option), func(t *testing.T) {
			const emitters, each, readers = 3, 1300, 6 // as many events as a fair queue holds
			bus := hBus(t, events.Options{HistoryEvents: 2 * emitters * each})
			var wg sync.WaitGroup
			for i := range emitters {
				c := hClient(t, bus, fmt.Sprint("emitter", i))
				wg.Go(func() {
					for n := range each {
						_, err := c.Emit(t.Context(), "x.a", n)
						require.NoError(t, err)
						if n%16 == 0 {
							runtime.Gosched()
						}
					}
				})
			}
			got := make([]hRecorder, readers)
			begin := make([]uint64, readers)
			for i := range readers {
				c := hClient(t, bus, fmt.Sprint("reader", i))
				wg.Go(func() {
					from := events.All()
					if i%2 == 1 { // Go on where another reader stopped.
						for e, err := range c.Replay(t.Context(), "**", events.Last(1)) {
							require.NoError(t, err)
							begin[i] = e.Seq()
						}
						from = events.After(begin[i])
					}
					_, err := c.Subscribe("x.*", got[i].handle, test.option, events.Buffer(events.MaxFairBuffer), events.StartAt(from))
					require.NoError(t, err)
				})
			}
			wg.Wait()
			require.NoError(t, bus.Idle(t.Context()))
			for i := range got {
				var want []uint64
				for seq := begin[i] + 1; seq <= emitters*each; seq++ {
					want = append(want, seq)
				}
				seqs := got[i].seqs()
				if !test.ordered {
					slices.Sort(seqs)
				}
				require.Equal(t, want, seqs, "reader %d", i)
			}
			require.NoError(t, bus.Ledger().Check())
		})
	}
}

// hSeamReader is one subscription of TestStartAtSeamModel, and what it is to
// get.
type hSeamReader struct {
	*hGate
	want       []uint64
	concurrent bool
}

// TestStartAtSeamModel is E19 against a plain list: emitters of every kind act
// while subscribers stand somewhere in the history.
func TestStartAtSeamModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		type step struct{ act, who, n int }
		plan := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) step {
			return step{rapid.IntRange(0, 9).Draw(rt, "act"), rapid.IntRange(0, 5).Draw(rt, "who"), rapid.IntRange(0, 99).Draw(rt, "n")}
		}), 1, 60).Draw(rt, "plan")
		var readers []*hSeamReader
		synctest.Test(t, func(t *testing.T) {
			bus := hBus(t, events.Options{})
			emitters := []*events.Client{hClient(t, bus, "e0"), hClient(t, bus, "e1")}
			var past []uint64 // in the history
			for _, step := range plan {
				emitter := emitters[step.who%2]
				switch step.act {
				case 0: // Another reader.
					options := []events.SubscribeOption{
						events.OnOverflow(events.Overflow(step.who % 3)), events.Buffer(1000),
					}
					r := &hSeamReader{hGate: newHGate(), concurrent: step.who == 4}
					if r.concurrent {
						options = append(options, events.Concurrent(3))
					}
					if step.who == 3 {
						options = append(options, events.Fair())
					}
					seq, n := uint64(0), 1+step.n/4
					if len(past) > 0 {
						seq = past[step.n%len(past)]
					}
					switch step.n % 4 {
					case 0:
						options = append(options, events.StartAt(events.All()))
						r.want = slices.Clone(past)
					case 1:
						options = append(options, events.StartAt(events.After(seq)))
						r.want = slices.DeleteFunc(slices.Clone(past), func(s uint64) bool { return s <= seq })
					case 2:
						options = append(options, events.StartAt(events.Last(n)))
						r.want = slices.Clone(past[max(0, len(past)-n):])
					case 3: // None.
					}
					hSubscribe(t, hClient(t, bus, fmt.Sprint("r", len(readers))), "x", r.handle, options...)
					readers = append(readers, r)
				case 1, 2, 3: // A reader goes on.
					if len(readers) > 0 {
						r := readers[step.who%len(readers)]
						for range min(step.n, len(r.want)) {
							select {
							case r.leave <- struct{}{}:
								synctest.Wait()
							default:
							}
						}
					}
				case 4, 5, 6: // Events of every kind.
					var options []events.EmitOption
					if step.act == 5 {
						options = append(options, events.NoHistory())
					}
					for range 1 + step.n/2 {
						var receipt events.Receipt
						var err error
						if step.act == 6 {
							receipt, err = emitter.Broadcast(t.Context(), "x", nil, events.Audience{}, options...)
						} else {
							receipt, err = emitter.Emit(t.Context(), "x", nil, options...)
						}
						require.NoError(t, err)
						for _, r := range readers {
							r.want = append(r.want, receipt.Seq)
						}
						// A broadcast is for those who are there, so a later
						// reader does not see it.
						if step.act == 4 {
							past = append(past, receipt.Seq)
						}
					}
				default:
					synctest.Wait()
				}
			}
			for _, r := range readers {
				r.open()
			}
			require.NoError(t, bus.Idle(t.Context()))
		})
		for i, r := range readers {
			got := r.seqs()
			if r.concurrent {
				slices.Sort(got)
			}
			if !slices.Equal(r.want, got) {
				rt.Fatalf("reader %d: got %v, want %v", i, got, r.want)
			}
		}
	})
}

// TestNoHistoryDuringReplay shows that events which are not in the history come
// too, once and in their place, while a subscriber still reads it (E19).
func TestNoHistoryDuringReplay(t *testing.T) {
	for _, options := range [][]events.SubscribeOption{
		{},
		{events.OnOverflow(events.DropNewest)},
		{events.OnOverflow(events.RefuseToEmitter)},
		{events.Fair()},
		{events.Concurrent(1)},
		{events.Concurrent(3)},
	} {
		synctest.Test(t, func(t *testing.T) {
			bus := hBus(t, events.Options{})
			emitter, reader := hClient(t, bus, "emitter"), hClient(t, bus, "reader")
			want := hEmitMany(t, emitter, 200)
			got := newHGate()
			s := hSubscribe(t, reader, "x", got.handle, append(options, events.StartAt(events.All()))...)
			synctest.Wait()
			require.True(t, s.Stats().Reading)
			want = append(want, hEmit(t, emitter, "x", events.NoHistory()))
			got.let(50)
			want = append(want, hEmitMany(t, emitter, 150)...) // more than one page
			want = append(want, hEmit(t, emitter, "x", events.NoHistory()))
			got.let(30)
			want = append(want, hEmit(t, emitter, "x"))
			got.open()
			require.NoError(t, bus.Idle(t.Context()))
			require.False(t, s.Stats().Reading)
			seqs := got.seqs()
			slices.Sort(seqs)
			require.Equal(t, want, seqs, "%T", options)
			if len(options) == 0 {
				require.Equal(t, want, got.seqs(), "in order")
			}
			require.EqualValues(t, len(want), s.Stats().Ledger.Handled)
		})
	}
}
