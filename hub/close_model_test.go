package hub_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/events"
	"github.com/plugbus/plugbus/hub"
	"github.com/plugbus/plugbus/router"
	"github.com/plugbus/plugbus/security"
)

// A naive is a plugin as the model of Close sees it: how many items wait for its one
// worker, how long each takes, and how long the rest of it takes to end.
type naive struct {
	id       string
	events   int
	posts    int
	item     time.Duration // of one of them; forever if it hangs
	asked    bool          // the host waits for a reply, and that message is the last
	deserted bool          // it does not wait any more when that has its turn
	stop     time.Duration // of Stop; forever if it hangs, -1 if the plugin has none
	fails    bool          // Stop returns an error
	loop     int           // what its function of Go does: none, obeys, obeys late, hangs

	p *plug
}

const forever = time.Duration(1<<62 - 1)

const (
	noLoop = iota
	obeys
	obeysLate // within the grace
	hangs
)

// A fate is what the model says becomes of a plugin.
type fate struct {
	handled, cancelled, abandoned int
	leaks                         []string
	stopped                       bool // its Stop is called
	problem                       bool
}

// times returns n times d.
func times(n int, d time.Duration) time.Duration {
	if n == 0 {
		return 0
	}
	if d == forever {
		return forever
	}
	return time.Duration(n) * d
}

// A departure is when a plugin leaves.
type departure struct {
	drained time.Duration // it has handled what it has
	called  bool          // its Stop is called
	ended   time.Duration // its Stop has returned, or it needs none
	fenced  time.Duration // it can do nothing more, and what it runs at the end is abandoned
	gone    time.Duration // its function of Go has returned, or is given up
}

// depart says when a plugin leaves that has handled what it has at a time, and whose turn
// comes at another.
func (p *naive) depart(drained, turn, limit time.Duration) departure {
	d := departure{drained: drained, called: p.stop >= 0 && drained < limit, ended: max(turn, drained)}
	switch {
	case d.called && p.stop == forever:
		d.ended = forever
	case d.called:
		d.ended += p.stop
	}
	d.fenced = min(d.ended, limit)
	d.gone = d.fenced
	switch p.loop {
	case obeysLate:
		d.gone += 100 * time.Millisecond
	case hangs:
		d.gone = limit + hub.CloseGrace/2
	}
	return d
}

// foresee says what Close does with plugins, in the order in which they have started, when
// it has so much time.
func foresee(plugins []*naive, limit time.Duration) []fate {
	now := time.Duration(0)
	for _, p := range plugins {
		now = max(now, times(p.items(), p.item))
	}
	now = min(now, limit/2)
	turns := make([]time.Duration, len(plugins)+1)
	for i, p := range slices.Backward(plugins) {
		turns[i] = now
		d := p.depart(times(p.items(), p.item), now, limit)
		now = min(d.gone, now+(limit-now)/time.Duration(i+2), limit) // The host is one of those that are to come.
	}
	host := now
	var leaving []departure
	closed := now
	for i, p := range plugins {
		if p.asked && host < limit && times(p.items()-1, p.item) >= host {
			p.deserted = true // Nobody waits for the reply any more.
		}
		d := p.depart(times(p.items(), p.item), turns[i], limit)
		leaving = append(leaving, d)
		closed = max(closed, d.gone)
	}
	fates := make([]fate, len(plugins))
	foretell := func(look time.Duration) {
		for i, p := range plugins {
			fates[i] = p.fate(leaving[i], limit, look)
		}
	}
	foretell(closed)
	if slices.ContainsFunc(fates, func(f fate) bool { return f.problem }) { // What obeys late has a moment to return.
		foretell(max(closed, min(closed, limit)+hub.CloseGrace/10))
	}
	return fates
}

// items returns how many items the plugin has to handle.
func (p *naive) items() int {
	n := p.events + p.posts
	if p.asked && !p.deserted {
		n++
	}
	return n
}

// fate says what becomes of a plugin that leaves so.
func (p *naive) fate(d departure, limit, closed time.Duration) (f fate) {
	f.cancelled = p.events + p.posts
	if p.asked {
		f.cancelled++
	}
	for k := range p.items() {
		if times(k, p.item) >= limit {
			break
		}
		f.cancelled--
		end := times(k+1, p.item)
		if end < limit {
			f.handled++
			continue
		}
		f.abandoned++
		if end > closed {
			f.leaks = append(f.leaks, p.id+" handler")
		}
	}
	f.stopped = d.called
	if d.called && d.ended > closed {
		f.leaks = append(f.leaks, p.id+" call")
	}
	if p.loop == hangs {
		f.leaks = append(f.leaks, p.id+" goroutine")
	}
	slices.Sort(f.leaks)
	f.problem = f.cancelled+f.abandoned > 0 || p.loop == hangs || p.stop >= 0 && d.ended >= limit || p.fails && d.called
	return f
}

// draw makes a plugin. Its times are odd, so that no two things happen at the same
// instant.
func draw(r *rapid.T, i int) *naive {
	odd := func(what string) time.Duration {
		return time.Duration(rapid.IntRange(1, 12_000).Draw(r, what))*time.Millisecond + time.Duration(i+1)*7919*time.Nanosecond
	}
	p := &naive{
		id: fmt.Sprint("p", i), events: rapid.IntRange(0, 4).Draw(r, "events"), posts: rapid.IntRange(0, 4).Draw(r, "posts"),
		item: odd("item"), asked: rapid.IntRange(0, 2).Draw(r, "asked") == 0, stop: -1,
		loop: rapid.IntRange(noLoop, hangs).Draw(r, "loop"), fails: rapid.Bool().Draw(r, "fails"),
	}
	switch rapid.IntRange(0, 3).Draw(r, "item is") {
	case 0:
		p.item = 0
	case 1:
		p.item = forever
	}
	switch rapid.IntRange(0, 3).Draw(r, "stop is") {
	case 0:
		p.stop = 0
	case 1:
		p.stop = forever
	case 2:
		p.stop = odd("stop")
	}
	if p.item == 0 {
		p.asked = false // It would be over at once.
	}
	return p
}

// A quitter is a plug without Stop.
type quitter struct{ p *plug }

func (q quitter) Manifest() hub.Manifest                          { return q.p.Manifest() }
func (q quitter) Start(ctx context.Context, s *hub.Session) error { return q.p.Start(ctx, s) }

// TestCloseModel closes hubs with plugins in random states, and compares the report with
// what a naive model says: what is handled, cancelled and abandoned of each plugin, which
// are told to stop and in which order, and what leaks (H16).
func TestCloseModel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		noDeadline := struct{ rapid.TB }{t} // A bubble has none.
		rapid.Check(noDeadline, closeModel)
	})
}

func closeModel(r *rapid.T) {
	const waitLimit = 20 * time.Second
	h, err := hub.New(hub.Options{Policy: security.AllowAll(), WaitLimit: waitLimit, FailureBudget: -1, Router: router.Options{RequestTimeout: time.Hour}})
	require.NoError(r, err)
	release := make(chan struct{})
	defer func() {
		select {
		case <-release:
		default:
			close(release)
		}
		_, _ = h.Close(context.Background())
		<-time.After(time.Minute)
	}()
	last := func(d time.Duration) {
		if d == forever {
			<-release
		} else if d > 0 {
			select {
			case <-time.After(d):
			case <-release:
			}
		}
	}
	var plugins []*naive
	var order diary // of Stop
	for i := range rapid.IntRange(1, 5).Draw(r, "plugins") {
		p := draw(r, i)
		plugins = append(plugins, p)
		p.p = &plug{manifest: named(p.id)}
		var plugin hub.Plugin = p.p
		if p.stop < 0 {
			plugin = quitter{p.p}
		}
		p.p.stop = func(context.Context) error {
			order.note(p.id)
			last(p.stop)
			if p.fails {
				return errPlugin
			}
			return nil
		}
		require.NoError(r, h.Register(context.Background(), plugin))
		_, err := p.p.session.Subscribe(p.id+".*", func(context.Context, events.Event) error { last(p.item); return nil })
		require.NoError(r, err)
		_, err = p.p.session.Handle("job", func(context.Context, router.Message) (any, error) { last(p.item); return nil, nil })
		require.NoError(r, err)
		switch p.loop {
		case obeys, obeysLate:
			require.NoError(r, p.p.session.Go("loop", func(ctx context.Context) {
				<-ctx.Done()
				if p.loop == obeysLate {
					<-time.After(100 * time.Millisecond)
				}
			}))
		case hangs:
			require.NoError(r, p.p.session.Go("loop", func(context.Context) { <-release }))
		}
	}
	start := time.Now()
	for _, p := range plugins {
		for range p.events {
			_, err := h.Host().Emit(context.Background(), p.id+".new", 1)
			require.NoError(r, err)
		}
		for range p.posts {
			require.NoError(r, h.Host().Post(context.Background(), p.id, "job", 1))
		}
		synctest.Wait()
		if p.asked {
			go func() { _, _ = h.Host().Send(context.Background(), p.id, "job", 1) }()
		}
	}
	synctest.Wait()
	require.Zero(r, time.Since(start))

	ctx, cancel := context.Background(), context.CancelFunc(func() {})
	limit := waitLimit
	switch rapid.IntRange(0, 3).Draw(r, "context") {
	case 0:
		limit = time.Duration(rapid.IntRange(1, 19_999).Draw(r, "deadline")) * time.Millisecond
		ctx, cancel = context.WithTimeout(ctx, limit)
	case 1:
		ctx, cancel = context.WithTimeout(ctx, time.Hour)
	}
	defer cancel()
	report, err := h.Close(ctx)
	took := time.Since(start)
	fates := foresee(plugins, limit)
	var handled, cancelled, abandoned int
	var leaks, problems, stops []string
	for i, f := range slices.Backward(fates) {
		handled, cancelled, abandoned = handled+f.handled, cancelled+f.cancelled, abandoned+f.abandoned
		if f.problem {
			problems = append(problems, fmt.Sprintf("%s %d %d", plugins[i].id, f.cancelled, f.abandoned))
		}
		if f.stopped {
			stops = append(stops, plugins[i].id)
		}
	}
	order.mu.Lock()
	stopped := slices.Clone(order.lines)
	order.mu.Unlock()
	require.ElementsMatch(r, stops, stopped)
	for _, f := range fates {
		leaks = append(leaks, f.leaks...)
	}
	l := report.Ledger
	require.NoError(r, l.Check())
	require.Equal(r, plugbus.Ledger{
		Offered: l.Offered, Accepted: l.Offered, Handled: uint64(handled), Cancelled: uint64(cancelled), Abandoned: uint64(abandoned),
	}, l)
	require.EqualValues(r, handled+cancelled+abandoned, l.Accepted)
	require.Equal(r, []int{cancelled, abandoned}, []int{report.Cancelled, report.Abandoned})
	var gotProblems, gotLeaks []string
	for _, p := range report.Problems {
		gotProblems = append(gotProblems, fmt.Sprintf("%s %d %d", p.Plugin, p.Cancelled, p.Abandoned))
	}
	for _, l := range report.Leaks {
		gotLeaks = append(gotLeaks, strings.Join([]string{l.Plugin, l.Kind}, " "))
	}
	require.Equal(r, problems, gotProblems, "%v", report.Problems)
	require.Equal(r, leaks, gotLeaks)
	if !slices.ContainsFunc(plugins, func(p *naive) bool { return p.item != 0 || p.stop > 0 || p.loop != noLoop }) {
		require.Equal(r, stops, stopped, "nobody takes any time")
	}
	require.LessOrEqual(r, took, limit+hub.CloseGrace)
	if limit < waitLimit && took > limit {
		require.ErrorIs(r, err, context.DeadlineExceeded)
	} else if took < limit {
		require.NoError(r, err)
	}
	close(release)
	<-time.After(time.Minute)
	require.Equal(r, l, h.Ledger(), "what returns late changes nothing")
	require.Empty(r, h.Leaks())
}
