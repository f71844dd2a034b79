package hub_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/audit"
	"github.com/plugbus/plugbus/hub"
	"github.com/plugbus/plugbus/router"
)

// keeper returns a plugin "p" that handles "job" and publications under "job", and
// keeps them in the box; it does not begin before the gate opens.
func keeper(version string, box *letterbox, gate <-chan struct{}) *plug {
	p := &plug{manifest: func() hub.Manifest { return hub.Manifest{ID: "p", Version: version} }}
	p.start = func(_ context.Context, s *hub.Session) error {
		slow := func(ctx context.Context, m router.Message) (any, error) { <-gate; return box.handle(ctx, m) }
		_, err := s.Handle("job", slow)
		_, e := s.HandleTopic("job", func(ctx context.Context, m router.Message) error { _, err := slow(ctx, m); return err })
		return errors.Join(err, e)
	}
	return p
}

func opened() <-chan struct{} {
	gate := make(chan struct{})
	close(gate)
	return gate
}

// TestH2Replace shows that a plugin is put in the place of another without the
// loss of a message: what waited and what comes meanwhile is kept for the new one,
// in order, while what runs ends at the old one; that the old session is fenced;
// and that it is announced and recorded.
func TestH2Replace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, hub.Options{})
		notices, asker := listen(t, h.Host(), "plugin:*"), join(t, h, "asker")
		var before, after letterbox
		gate := make(chan struct{})
		first := keeper("1", &before, gate)
		stopped := false
		first.stop = func(context.Context) error { stopped = true; return nil }
		require.NoError(t, h.Register(t.Context(), first))
		say := func(data any) {
			require.NoError(t, asker.Post(t.Context(), "p", "job", data))
			receipt, err := asker.Publish(t.Context(), "job", data)
			require.NoError(t, err)
			require.Equal(t, 1, receipt.Accepted)
		}
		say(1)
		var asked error
		go func() { _, asked = asker.Send(context.Background(), "p", "job", "asked") }()
		synctest.Wait()
		done := make(chan error)
		second := keeper("2", &after, opened())
		go func() { done <- h.Replace(context.Background(), second) }()
		synctest.Wait()
		require.Equal(t, []string{"2 ready", "1 draining"}, versions(h, "p"))
		say(2)
		require.ErrorIs(t, h.Register(t.Context(), keeper("3", &after, gate)), hub.ErrDuplicate)
		require.ErrorIs(t, h.Replace(t.Context(), keeper("3", &after, gate)), hub.ErrReplacing)
		require.Empty(t, after.messages, "the old one has not ended")
		close(gate)
		require.NoError(t, <-done)
		require.True(t, stopped)
		say(3)
		idle(t, h)
		synctest.Wait()
		require.NoError(t, asked)
		require.Len(t, before.messages, 1)
		var order []any
		for _, m := range after.messages {
			order = append(order, m.Data())
		}
		require.Equal(t, []any{1, "asked", 2, 2, 3, 3}, order)
		require.EqualValues(t, h.Ledger().Accepted, h.Ledger().Handled)
		require.Equal(t, hub.Ready, state(h, "p"))

		_, err := first.session.Send(t.Context(), "asker", "x", 1)
		require.ErrorIs(t, err, plugbus.ErrClosed)
		require.NotSame(t, first.session, second.session)
		require.Contains(t, notices.names(), hub.EventReplaced)
		notice, _ := notices.events[len(notices.events)-1].Data().(hub.Notice)
		require.Equal(t, [2]string{"p", "2"}, [2]string{notice.Plugin, notice.Version})
		require.NotContains(t, notices.names(), hub.EventUnregistered)
		found := entries(t, h, audit.Query{Event: "plugin.replaced"})
		require.Len(t, found, 1)
		require.Equal(t, "p", found[0].Target)
		require.Empty(t, h.Leaks())
	})
}

// TestReplaceUnderLoad sends while a plugin is replaced again and again: every
// message is handled, once, and in the order of its sender (H2).
func TestReplaceUnderLoad(t *testing.T) {
	h := open(t, hub.Options{})
	var box letterbox
	require.NoError(t, h.Register(t.Context(), keeper("", &box, opened())))
	asker := join(t, h, "asker")
	var wait sync.WaitGroup
	const each = 300
	wait.Go(func() {
		for i := range each {
			if err := asker.Post(context.Background(), "p", "job", i, router.WaitForRoom()); err != nil {
				t.Error(err)
			}
		}
	})
	wait.Go(func() {
		for range each {
			if _, err := h.Host().Send(context.Background(), "p", "job", -1, router.WaitForRoom()); err != nil {
				t.Error(err)
			}
		}
	})
	for range 20 {
		require.NoError(t, h.Replace(t.Context(), keeper("", &box, opened())))
		require.NoError(t, h.Ledger().Check())
		s := h.Inspect()
		require.NoError(t, s.Ledger.Check())
	}
	wait.Wait()
	idle(t, h)
	require.Len(t, box.messages, 2*each)
	next := 0
	for _, m := range box.messages {
		if m.Data() != -1 {
			require.Equal(t, next, m.Data())
			next++
		}
	}
	require.EqualValues(t, 2*each, h.Inspect().Router.Ledger.Handled)
}

// versions returns the versions and states of the plugins with an id.
func versions(h *hub.Hub, id string) (all []string) { //nolint:unparam // It says whose it is.
	for _, p := range h.Inspect().Plugins {
		if p.ID == id {
			all = append(all, p.Version+" "+p.State.String())
		}
	}
	return all
}

// TestReplaceIsChecked shows that a plugin which may not take the place of another
// changes nothing: the old one stays.
func TestReplaceIsChecked(t *testing.T) {
	policy := `"p": {"provide": {"allow": ["x", "y"]}, "discover": true, "receive": true}, "asker": {"send": true}`
	for name, test := range map[string]struct {
		next hub.Manifest
		err  error
	}{
		"may not provide":                {caps("p", "z", ""), plugbus.ErrDenied},
		"bad manifest":                   {hub.Manifest{ID: "p", Requires: []string{"a..b"}}, plugbus.ErrInvalid},
		"unknown":                        {caps("asker", "", ""), hub.ErrUnknownPlugin},
		"requires what nobody provides":  {caps("p", "", "z"), &hub.RequirementError{}},
		"requires what the old provides": {caps("p", "y", "x"), &hub.RequirementError{}},
		"no longer in the policy":        {caps("p", "", ""), plugbus.ErrDenied},
		"fine":                           {caps("p", "y", "y"), nil},
	} {
		h := open(t, hub.Options{Policy: policyOf(t, policy)})
		p := &plug{manifest: func() hub.Manifest { return caps("p", "x", "") }}
		require.NoError(t, h.Register(t.Context(), p))
		serve(t, p.session, "x", echo)
		if name == "no longer in the policy" {
			swap(t, h, policyOf(t, `"asker": {}`))
		}
		err := h.Replace(t.Context(), &plug{manifest: func() hub.Manifest { return test.next }})
		swap(t, h, policyOf(t, policy))
		if test.err == nil {
			require.NoError(t, err, name)
			continue
		}
		if _, ok := test.err.(*hub.RequirementError); ok { //nolint:errorlint // It is the table's own.
			_, ok := errors.AsType[*hub.RequirementError](err)
			require.True(t, ok, "%s: %v", name, err)
		} else if name == "no longer in the policy" {
			_, ok := errors.AsType[*hub.RegisterError](err)
			require.True(t, ok, "%v", err)
		} else {
			require.ErrorIs(t, err, test.err, name)
		}
		require.Equal(t, hub.Ready, state(h, "p"), name)
		_, err = join(t, h, "asker").Send(t.Context(), "p", "x", 1)
		require.NoError(t, err, name)
	}
}

// TestReplaceFromItsOwnHandler shows that a handler can have its own plugin
// replaced: it is abandoned, since nobody can wait for it, and the new one starts.
func TestReplaceFromItsOwnHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, hub.Options{})
		var box letterbox
		first := keeper("1", &box, opened())
		require.NoError(t, h.Register(t.Context(), first))
		var replaced error
		serve(t, first.session, "update", func(ctx context.Context, _ router.Message) (any, error) {
			replaced = h.Replace(ctx, keeper("2", &box, opened()))
			return nil, nil
		})
		require.NoError(t, h.Host().Post(t.Context(), "p", "update", 1))
		require.NoError(t, h.Host().Post(t.Context(), "p", "job", 2))
		synctest.Wait()
		require.NoError(t, replaced)
		require.Equal(t, []string{"job"}, box.types())
		require.Empty(t, h.Leaks())
		require.EqualValues(t, 1, h.Ledger().Abandoned)
		require.Equal(t, []string{"2 ready"}, versions(h, "p"))
	})
}

// TestReplaceQuarantined shows that a plugin in quarantine can be replaced, which
// ends the quarantine; what had waited is for the new one.
func TestReplaceQuarantined(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, hub.Options{})
		var box letterbox
		gate := make(chan struct{})
		first := keeper("1", &box, gate)
		require.NoError(t, h.Register(t.Context(), first))
		for i := range 2 {
			require.NoError(t, h.Host().Post(t.Context(), "p", "job", i))
		}
		synctest.Wait()
		quarantine(t, h, first.session)
		denied(t, h.Host().Post(t.Context(), "p", "job", 2), plugbus.ReasonRecipientCannotReceive)
		go func() { <-time.After(time.Second); close(gate) }()
		require.NoError(t, h.Replace(t.Context(), keeper("2", &box, gate)))
		idle(t, h)
		require.Equal(t, hub.Ready, state(h, "p"))
		require.NoError(t, h.Host().Post(t.Context(), "p", "job", 3))
		idle(t, h)
		require.Len(t, box.messages, 3)
	})
}

// TestReplaceAndItsCapabilities shows that what only the old plugin provided is
// lost, what both provide is not, and that the new one inherits no figures.
func TestReplaceAndItsCapabilities(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, hub.Options{})
		p := &plug{manifest: func() hub.Manifest { return caps("p", "x y", "") }}
		require.NoError(t, h.Register(t.Context(), p))
		provide(t, p.session, hub.Capability{Name: "z"}, echo)
		d := &dependant{plug: plug{manifest: func() hub.Manifest { return caps("d", "", "x y z") }}}
		require.NoError(t, h.Register(t.Context(), d))
		require.NoError(t, h.Replace(t.Context(), &plug{manifest: func() hub.Manifest { return caps("p", "y", "") }}))
		idle(t, h)
		synctest.Wait()
		require.ElementsMatch(t, []string{"x", "z"}, d.told())
		require.Equal(t, []string{"y"}, namesOf(must(snapshotOf(h, "p")).Capabilities))
	})
}

// TestReplaceDuringClose shows that a hub that closes ends a Replace that is under way,
// whatever that is about, and that the books balance: a plugin that had not started does
// not join, and one that had the place leaves after the one before it.
func TestReplaceDuringClose(t *testing.T) {
	for _, moment := range []string{"old runs", "old hangs", "new starts", "new hangs"} {
		synctest.Test(t, func(t *testing.T) {
			t.Log(moment)
			h := open(t, hub.Options{WaitLimit: 10 * time.Second})
			var was, is letterbox
			gate, starting := make(chan struct{}), make(chan struct{})
			first := keeper("1", &was, gate)
			require.NoError(t, h.Register(t.Context(), first))
			for i := range 3 {
				require.NoError(t, h.Host().Post(t.Context(), "p", "job", i))
			}
			synctest.Wait()
			second := keeper("2", &is, opened())
			start, stops := second.start, 0
			second.stop = func(context.Context) error { stops++; return nil }
			second.start = func(ctx context.Context, s *hub.Session) error {
				switch moment {
				case "new hangs":
					<-starting
				case "new starts":
					<-time.After(2 * time.Second)
				}
				return start(ctx, s)
			}
			switch moment {
			case "old runs":
				go func() { <-time.After(3 * time.Second); close(gate) }()
			case "new starts", "new hangs":
				close(gate)
			}
			done := make(chan error)
			go func() { done <- h.Replace(context.Background(), second) }()
			<-time.After(time.Second)
			began := time.Now()
			report, err := h.Close(context.Background())
			require.NoError(t, err)
			took := time.Since(began)
			replaced := <-done
			l := report.Ledger
			require.NoError(t, l.Check())
			require.Zero(t, l.Waiting+l.Running, "%v", l)
			require.EqualValues(t, report.Cancelled, l.Cancelled)
			require.EqualValues(t, report.Abandoned, l.Abandoned)
			switch moment {
			case "old runs":
				require.NoError(t, replaced)
				require.True(t, report.Clean(), "%+v", report)
				require.Equal(t, 2*time.Second, took)
				require.Len(t, was.messages, 1)
				require.Len(t, is.messages, 2, "the new one had the place")
				require.Equal(t, 1, stops)
			case "old hangs":
				require.NoError(t, replaced)
				require.EqualValues(t, 1, l.Abandoned)
				require.Len(t, is.messages, int(l.Handled))
				close(gate)
			case "new starts":
				require.ErrorIs(t, replaced, hub.ErrClosed)
				require.LessOrEqual(t, took, 2*time.Second)
				require.Len(t, was.messages, 3)
			case "new hangs":
				require.ErrorIs(t, replaced, hub.ErrClosed)
				require.False(t, report.Clean(), "%+v", report)
				require.Len(t, was.messages, 3)
			}
			if replaced != nil {
				failed, ok := errors.AsType[*hub.RegisterError](replaced)
				require.True(t, ok)
				require.Equal(t, "start", failed.Stage)
				require.Empty(t, is.messages)
			}
			close(starting)
			synctest.Wait()
			require.Empty(t, h.Leaks())
		})
	}
}

// TestReplaceConcurrently has the same id registered, replaced and unregistered by
// several at once: each gets a typed error or what it asked for, and at the end
// nothing is left (H2).
func TestReplaceConcurrently(t *testing.T) {
	h := open(t, hub.Options{})
	var box letterbox
	var wait sync.WaitGroup
	acts := []func() error{
		func() error { return h.Register(context.Background(), keeper("", &box, opened())) },
		func() error { return h.Replace(context.Background(), keeper("", &box, opened())) },
		func() error { return h.Unregister(context.Background(), "p") },
		func() error { return h.Host().Post(context.Background(), "p", "job", 1) },
	}
	for _, act := range acts {
		wait.Go(func() {
			for range 100 {
				err := act()
				known := err == nil || errors.Is(err, hub.ErrDuplicate) || errors.Is(err, hub.ErrReplacing) || errors.Is(err, hub.ErrUnknownPlugin) ||
					errors.Is(err, router.ErrUnknownTarget) || errors.Is(err, router.ErrNoHandler)
				if !known {
					t.Errorf("%T: %v", err, err)
				}
			}
		})
	}
	wait.Wait()
	_ = h.Unregister(t.Context(), "p")
	idle(t, h)
	require.Empty(t, h.Plugins())
	for len(h.Leaks()) > 0 { // A Start that was cut short may be about to return.
		<-time.After(time.Millisecond)
	}
	require.Empty(t, h.Security().Subjects()[1:], "all but the host have left")
	require.NoError(t, h.Ledger().Check())
	require.Zero(t, h.Ledger().Waiting)
}

// A dependant is a plug that hears what it has lost.
type dependant struct {
	plug
	mu   sync.Mutex
	lost []string
}

func (d *dependant) RequirementLost(_ context.Context, capability string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lost = append(d.lost, capability)
	return nil
}

func (d *dependant) told() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]string(nil), d.lost...)
}
