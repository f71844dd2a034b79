package hub_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/plugbus/plugbus/events"
	"github.com/plugbus/plugbus/hub"
)

// places are all places.
func places() []place {
	return slices.Concat(eventPlaces(), messagePlaces(), streamPlaces(), storePlaces(), backendPlaces(), lifePlaces(), contextPlaces(), hostPlaces())
}

// TestHandlersFromHell has the code of each place commit each sin, and shows what a plugin
// and the host are promised all the same: nobody but those who chose to wait is delayed, and
// these are released in time; the books balance; what hangs is named until it returns; the
// sinner is charged, and nobody else; a panic leaves its text behind; what else the sinner
// does it goes on with, or it has left visibly; Close returns in its time, and nothing
// stays (promises 4, 7, 8, 9 and 11; E6, E7, E10, H13, R2, D17, A6).
func TestHandlersFromHell(t *testing.T) {
	for _, p := range places() {
		t.Run(p.name, func(t *testing.T) {
			for _, s := range sins() {
				t.Run(s.name, func(t *testing.T) {
					if why := p.impossible(&s); why != "" {
						t.Log("it cannot be: " + why)
						return
					}
					begin := time.AfterFunc(time.Minute, func() { panic(fmt.Sprintf("%s has hung in real time, so somebody waits for a lock", t.Name())) })
					defer begin.Stop()
					synctest.Test(t, func(t *testing.T) {
						try(&cell{t: t, place: &p, sin: &s, gate: make(chan struct{}), payload: goodPayload()})
					})
				})
			}
		})
	}
}

// impossible returns why a place cannot have a sin, or "".
func (p *place) impossible(s *sin) string {
	switch {
	case p.never != "":
		return ""
	case s.needs != "":
		return p.lacks[s.needs]
	case s.leaves && p.joins:
		return "the plugin has not joined yet, so the hub does not know it"
	}
	return ""
}

// try tries one cell.
func try(c *cell) {
	trial.Store(c)
	c.setUp()
	stop := make(chan struct{})
	lived := make(chan struct{})
	go func() { defer close(lived); c.live(stop) }() // Ends with stop.
	<-time.After(1500 * time.Millisecond)            // The ticks are at full seconds, and this is between them.
	c.armed.Store(true)
	c.ask()
	<-time.After(c.place.limits()) // By then each limit is over.
	c.judgeRun()
	if c.sin.blocks && c.sin.late {
		close(c.gate)
	}
	synctest.Wait()
	if !c.hangs() {
		c.judgeAftermath()
	}
	close(stop)
	<-lived
	c.judgeBystander()
	c.judgeClose()
	for _, fault := range c.faults {
		c.t.Error(fault)
	}
	if len(c.faults) > 0 && testing.Verbose() {
		c.t.Log(c.log.String())
	}
}

// hangs reports whether the code blocks still.
func (c *cell) hangs() bool { return c.sin.blocks && !c.sin.late }

// judgeRun looks at the time in which each wait must be over, and what blocks for ever
// still does.
func (c *cell) judgeRun() {
	p, s := c.place, c.sin
	if p.never != "" {
		if c.runs.Load() != 0 {
			c.fault("code ran, although %s", p.never)
		}
		return
	}
	if c.runs.Load() == 0 {
		c.fault("the code at the place was not run: %v", c.answer)
		return
	}
	held := p.stack != "" && s.blocks && !s.obeys
	select {
	case <-c.released:
		if c.took > p.holds() {
			c.fault("whoever waited was released after %v, but had %v", c.took, p.holds())
		}
		if held {
			c.fault("whoever waited was released, although %s", p.stack)
		}
	default:
		if !held {
			c.fault("whoever waits is not released")
		}
	}
	if s.closes {
		return
	}
	var want []string
	if s.blocks && !s.obeys && p.early {
		want = p.expectedLeak()
	}
	if got := leakNames(c.h.Leaks()); !slices.Equal(got, want) {
		c.fault("leaks are %q, want %q", got, want)
	}
	c.judgeBlame()
}

// judgeBlame looks at who is charged, and at what the host can read of it.
func (c *cell) judgeBlame() {
	p, s := c.place, c.sin
	snapshot := c.books()
	for _, info := range snapshot.Plugins {
		switch {
		case info.ID != "devil" && info.Failures != 0:
			c.fault("%q is charged with %d failures: %s", info.ID, info.Failures, info.LastError)
		case info.ID == "devil" && p.host && !s.leaves && info.Failures > p.charge:
			c.fault("the devil is charged with %d failures for what the host did: %s", info.Failures, info.LastError)
		case info.ID == "devil" && s.breaks && !p.host && p.unnamed == "" && !p.leaves && info.Failures != p.charged(s):
			c.fault("the devil is charged with %d failures, want %d: %s", info.Failures, p.charged(s), info.LastError)
		}
	}
	if !s.breaks || p.unnamed != "" {
		return
	}
	says := func(text string) bool {
		return strings.Contains(text, s.text) || p.text != "" && strings.Contains(text, p.text)
	}
	if !says(c.log.String()) && p.deaf == "" {
		c.fault("the log does not say %q", s.text)
	}
	if s.panics && !p.host && p.text == "" && !strings.Contains(c.log.String(), "hell_sins_test.go") {
		c.fault("the log does not say where it panicked")
	}
	if !p.host && p.method != "Manifest" && !c.traced("devil", says) {
		c.fault("the audit log does not say %q", s.text)
	}
}

// judgeAftermath looks at what is left when nothing of the sin runs any more.
func (c *cell) judgeAftermath() {
	p, s := c.place, c.sin
	if got := leakNames(c.h.Leaks()); len(got) > 0 {
		c.fault("it is over, and there are leaks: %q", got)
	}
	c.intact("whoever had it before", c.payload)
	if !s.closes {
		c.judgeCopies()
	}
	if p.never != "" {
		c.well()
		return
	}
	if s.closes {
		if _, err := c.h.Host().Emit(c.t.Context(), "late", nil); err == nil {
			c.fault("the hub was closed, and takes events")
		}
		return
	}
	gone := s.leaves || p.leaves || p.joins && (s.breaks || s.blocks || p.bad != nil)
	switch is := state(c.h, "devil"); {
	case gone && is != 0:
		c.fault("the devil is %v, and should have left", is)
	case gone:
		if c.devil.Load() != nil {
			c.fenced()
		}
	case is != hub.Ready:
		c.fault("the devil is %v, and should be ready", is)
	default:
		c.well()
		c.judgeAgain()
	}
}

// judgeCopies looks at what others can still read of what the code got.
func (c *cell) judgeCopies() {
	host := c.h.Host()
	for e, err := range host.Replay(c.t.Context(), "job", events.All()) {
		if err == nil {
			c.look("the history", e.Data())
		}
	}
	for _, letter := range c.h.DeadLetters() {
		c.look("a dead letter", letter.Data())
	}
	for _, name := range []string{"words", "judged"} {
		v, err := host.OpenStore(c.t.Context(), name)
		if err != nil {
			continue // This place has none.
		}
		if e, err := v.Get(c.t.Context(), "job"); err == nil && e.Exists() && e.Text() != "good" {
			c.fault("the store %s has %q, want %q", name, e.Text(), "good")
		}
		if e, err := v.Get(c.t.Context(), "tick"); err == nil && strings.Contains(e.Text(), "x") {
			c.fault("the store %s has %q", name, e.Text())
		}
	}
	if c.traced("", func(text string) bool { return text == "evil" }) {
		c.fault("an entry of the audit log was changed")
	}
}

// judgeAgain has the code run again: it is well behaved now, unless it took itself away.
func (c *cell) judgeAgain() {
	if c.place.once || c.place.never != "" {
		return
	}
	before := c.runs.Load()
	c.ask()
	<-time.After(time.Second)
	synctest.Wait()
	select {
	case <-c.released:
	default:
		c.fault("whoever waits for a second run is not released")
	}
	if again := c.runs.Load() > before; again == c.sin.removes {
		c.fault("the code ran again: %t; %v", again, c.answer)
	}
}

// judgeBystander looks at whether the bystander got everything.
func (c *cell) judgeBystander() {
	for kind := range c.heard {
		if got, want := c.heard[kind].Load(), c.ticks.Load(); got != want {
			c.fault("the bystander got %d of %d ticks of kind %d", got, want, kind)
		}
	}
	if c.ticks.Load() < 1 {
		c.fault("there were no ticks")
	}
}

// judgeClose closes the hub, and looks at what is left then, and when what hung is let go.
func (c *cell) judgeClose() {
	report, err := c.finish()
	if err := report.Ledger.Check(); err != nil {
		c.fault("at the end: %v", err)
	}
	if l := report.Ledger; l.Waiting+l.Running != 0 {
		c.fault("at the end there is something to do: %v", l)
	}
	synctest.Wait()
	hangs := c.hangs() && !c.sin.obeys && c.place.never == ""
	var want []string
	if hangs {
		want = c.place.expectedLeak()
		if got := leakNames(report.Leaks); !slices.Equal(got, want) {
			c.fault("the report of Close has the leaks %q, want %q", got, want)
		}
		if says := c.place.says; says != "" && (err == nil || !strings.Contains(err.Error(), says)) {
			c.fault("Close says %v, and should say %q", err, says)
		}
		if got := leakNames(c.h.Leaks()); !slices.Equal(got, want) {
			c.fault("after Close the leaks are %q, want %q", got, want)
		}
		close(c.gate)
	} else if c.sin.blocks && !c.sin.late {
		close(c.gate)
	}
	<-c.released
	synctest.Wait()
	if got := leakNames(c.h.Leaks()); len(got) > 0 {
		c.fault("everything has returned, and there are leaks: %q", got)
	}
	if err := c.h.Ledger().Check(); err != nil {
		c.fault("after the end: %v", err)
	}
}
