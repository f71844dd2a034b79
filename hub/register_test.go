package hub_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/audit"
	"github.com/plugbus/plugbus/events"
	"github.com/plugbus/plugbus/hub"
	"github.com/plugbus/plugbus/security"
)

// A log of what happened, in order.
type diary struct {
	mu    sync.Mutex
	lines []string
}

func (d *diary) note(line string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, line)
}

// of returns a plugin that notes its start and stop.
func (d *diary) of(m hub.Manifest, startErr error) *plug {
	return &plug{
		manifest: func() hub.Manifest { return m },
		start: func(context.Context, *hub.Session) error {
			d.note("start " + m.ID)
			return startErr
		},
		stop: func(context.Context) error {
			d.note("stop " + m.ID)
			return nil
		},
	}
}

// caps makes a manifest; the capabilities are separated by spaces.
func caps(id, provides, requires string) hub.Manifest {
	m := hub.Manifest{ID: id, Requires: strings.Fields(requires)}
	for name := range strings.FieldsSeq(provides) {
		m.Provides = append(m.Provides, hub.Capability{Name: name})
	}
	return m
}

// TestH6RegisterIsAllOrNothing shows that of several plugins all join or none,
// and that nothing of those that had started stays behind (H4).
func TestH6RegisterIsAllOrNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, hub.Options{})
		notices := listen(t, h.Host(), "plugin:*")
		var d diary
		a, b := d.of(caps("a", "x", ""), nil), d.of(caps("b", "", ""), nil)
		a.start = func(_ context.Context, s *hub.Session) error {
			d.note("start a")
			listen(t, s, "word.*")
			return s.Go("loop", func(ctx context.Context) { <-ctx.Done() })
		}
		before := h.Inspect()
		err := h.Register(t.Context(), a, b, d.of(caps("c", "", ""), errPlugin), d.of(caps("d", "", ""), nil))
		require.ErrorIs(t, err, errPlugin)
		failed, ok := errors.AsType[*hub.RegisterError](err)
		require.True(t, ok)
		require.Equal(t, "c start", failed.Plugin+" "+failed.Stage)
		require.EqualError(t, err, `register plugin "c": start: the plugin's own error`)

		require.Equal(t, []string{"start a", "start b", "start c", "stop b", "stop a"}, d.lines)
		require.Empty(t, h.Plugins())
		require.Empty(t, h.Leaks())
		require.Empty(t, h.Security().Subjects()[1:], "only the host's is left")
		idle(t, h)
		require.Empty(t, notices.names(), "no announcement")
		require.Equal(t, len(before.Plugins), len(h.Inspect().Plugins))
		_, err = a.session.Emit(t.Context(), "word.said", 1)
		require.ErrorIs(t, err, plugbus.ErrClosed)
		require.Empty(t, entries(t, h, audit.Query{Event: "plugin.registered"}))
		require.Len(t, entries(t, h, audit.Query{Event: "plugin.failed", Actor: "c"}), 1)

		require.NoError(t, h.Register(t.Context(), d.of(caps("c", "", "x"), nil), a), "every id and capability is free again")
	})
}

// TestRegisterStopsWhatStartedWhenItsContextEnds shows that the plugins that had
// started are told to stop even if the context is why.
func TestRegisterStopsWhatStartedWhenItsContextEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, hub.Options{})
		var d diary
		ctx, cancel := context.WithCancel(t.Context())
		slow := d.of(caps("b", "", ""), nil)
		slow.start = func(ctx context.Context, _ *hub.Session) error {
			cancel()
			<-ctx.Done()
			return nil // Too late.
		}
		require.ErrorIs(t, h.Register(ctx, d.of(caps("a", "", ""), nil), slow), context.Canceled)
		require.Equal(t, []string{"start a", "stop a"}, d.lines)
		require.Empty(t, h.Plugins())
	})
}

// TestRegisterOrder shows that a plugin starts after those that provide what it
// requires, and otherwise in the order given.
func TestRegisterOrder(t *testing.T) {
	for _, test := range []struct{ given, want string }{
		{"a b c", "a b c"},
		{"a<y b>y c", "b a c"},
		{"a<y b<z>y c>z", "c b a"},
		{"a<old b", "a b"},
		{"a<y<old b>y c>y", "b c a"},
		{"a<x>x b", "a b"}, // what it provides itself
		{"a<old<y b>y>old", "b a"},
	} {
		h := open(t, hub.Options{})
		require.NoError(t, h.Register(t.Context(), (&diary{}).of(caps("present", "old", ""), nil)))
		var d diary
		require.NoError(t, h.Register(t.Context(), d.plugins(test.given)...), "%s", test.given)
		require.Equal(t, "start "+strings.ReplaceAll(test.want, " ", " start "), strings.Join(d.lines, " "), "%s", test.given)
	}
}

// plugins reads plugins like "a<x>y", which requires x and provides y.
func (d *diary) plugins(given string) []hub.Plugin {
	var plugins []hub.Plugin
	for one := range strings.FieldsSeq(given) {
		m := hub.Manifest{ID: one[:1]}
		for i := 1; i < len(one); {
			end := i + 1 + len(one[i+1:])
			if next := strings.IndexAny(one[i+1:], "<>"); next >= 0 {
				end = i + 1 + next
			}
			if name := one[i+1 : end]; one[i] == '<' {
				m.Requires = append(m.Requires, name)
			} else {
				m.Provides = append(m.Provides, hub.Capability{Name: name})
			}
			i = end
		}
		plugins = append(plugins, d.of(m, nil))
	}
	return plugins
}

// TestRegisterRequirements shows that what is missing or circular is said before
// anything starts (V18).
func TestRegisterRequirements(t *testing.T) {
	for _, test := range []struct {
		given string
		want  hub.RequirementError
		text  string
	}{
		{"a b<y<z", hub.RequirementError{Missing: []string{"y", "z"}}, `register plugin "b": requires: no plugin provides ["y" "z"]; register a provider before, or in the same call`},
		{"a<y>x b<x>y", hub.RequirementError{Circle: []string{"a", "b"}}, `register plugin "a": requires: the plugins ["a" "b"] require each other in a circle; at least one must start without the other`},
		{"a<b b<c>b c<b>c", hub.RequirementError{Circle: []string{"b", "c"}}, `register plugin "b": requires: the plugins ["b" "c"] require each other in a circle; at least one must start without the other`},
	} {
		h := open(t, hub.Options{})
		var d diary
		err := h.Register(t.Context(), d.plugins(test.given)...)
		got, ok := errors.AsType[*hub.RequirementError](err)
		require.True(t, ok, "%s: %v", test.given, err)
		require.Equal(t, test.want, *got)
		require.EqualError(t, err, test.text)
		require.Empty(t, d.lines)
		require.Empty(t, h.Plugins())
	}
}

// A plugin that leaves provides nothing to those that come.
func TestRegisterRequirementOfOneThatLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, hub.Options{})
		release := make(chan struct{})
		provider := &plug{manifest: func() hub.Manifest { return caps("provider", "x", "") }, stop: func(context.Context) error {
			<-release
			return nil
		}}
		require.NoError(t, h.Register(t.Context(), provider))
		go h.Unregister(context.Background(), "provider") //nolint:errcheck // It is another test's affair.
		synctest.Wait()
		require.Equal(t, hub.Draining, state(h, "provider"))
		_, ok := errors.AsType[*hub.RequirementError](h.Register(t.Context(), (&diary{}).of(caps("a", "", "x"), nil)))
		require.True(t, ok)
		close(release)
	})
}

// TestH2DuplicateID shows that an id in use cannot be taken over, in the hub or
// within one call.
func TestH2DuplicateID(t *testing.T) {
	h := open(t, hub.Options{})
	first := join(t, h, "a")
	var d diary
	err := h.Register(t.Context(), d.of(caps("new", "", ""), nil), d.of(caps("a", "", ""), nil))
	require.ErrorIs(t, err, hub.ErrDuplicate)
	require.EqualError(t, err, `register plugin "a": manifest: hub: the id is in use by a plugin that is ready; Replace that one, Unregister it first, or choose another id`)
	err = h.Register(t.Context(), d.of(caps("b", "", ""), nil), d.of(caps("b", "", ""), nil))
	require.ErrorIs(t, err, hub.ErrDuplicate)
	require.ErrorContains(t, err, "by another plugin of the same call")
	require.Empty(t, d.lines)
	require.Equal(t, []string{"a"}, h.Plugins())
	emit(t, first, "word.said", 1) // The first one is unharmed.
}

// TestRegisterConcurrently shows that of many that want one id exactly one gets
// it (H2).
func TestRegisterConcurrently(t *testing.T) {
	h := open(t, hub.Options{})
	var won atomic.Int32
	var wait sync.WaitGroup
	for range 20 {
		wait.Go(func() {
			err := h.Register(context.Background(), &plug{manifest: named("a")})
			if err == nil {
				won.Add(1)
			} else if !errors.Is(err, hub.ErrDuplicate) {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	require.EqualValues(t, 1, won.Load())
	require.Equal(t, []string{"a"}, h.Plugins())
}

// TestH3IDs shows which ids cannot join, and that the error says what to do; S6:
// an id that the policy does not know is an error, and not an untrusted plugin.
func TestH3IDs(t *testing.T) {
	h := open(t, hub.Options{Policy: policyOf(t, `"indexer": {}`)})
	for _, test := range []struct {
		id      string
		stage   string
		invalid bool
		says    string
	}{
		{"", "manifest", true, "it is empty"},
		{"a b", "manifest", true, "not allowed"},
		{"a.b", "manifest", true, "not allowed"},
		{"a*", "manifest", true, "not allowed"},
		{"plugin:x", "manifest", true, "not allowed"},
		{"a\n", "manifest", true, "not allowed"},
		{"ä", "manifest", true, "not allowed"},
		{strings.Repeat("a", 129), "manifest", true, "longer than 128 bytes"},

		{"hub", "policy", false, "the id belongs to the hub; choose another"},
		{"host", "policy", false, "the id belongs to the hub; choose another"},
		{"hub~x", "policy", false, "the id belongs to the hub; choose another"},

		{"stranger", "policy", false, `add "stranger" under "plugins"`},
		{"index3r", "policy", false, `did you mean "indexer"?`},
	} {
		err := h.Register(t.Context(), &plug{manifest: named(test.id)})
		failed, ok := errors.AsType[*hub.RegisterError](err)
		require.True(t, ok, "%q: %v", test.id, err)
		require.Equal(t, test.stage, failed.Stage, "%q", test.id)
		require.Equal(t, test.invalid, errors.Is(err, plugbus.ErrInvalid), "%q: %v", test.id, err)
		require.Equal(t, !test.invalid, errors.Is(err, plugbus.ErrDenied), "%q: %v", test.id, err)
		require.ErrorContains(t, err, test.says)
		require.Empty(t, h.Plugins())
	}
}

// TestRegisterManifests shows what else a manifest can have wrong.
func TestRegisterManifests(t *testing.T) {
	for _, test := range []struct {
		manifest hub.Manifest
		says     string
	}{
		{hub.Manifest{ID: "a", Version: strings.Repeat("1", 65)}, "expected at most 64 bytes"},
		{hub.Manifest{ID: "a", Version: "1\n2"}, `"1\n2"; expected at most 64 bytes without control characters`},
		{hub.Manifest{ID: "a", Provides: make([]hub.Capability, hub.MaxCapabilities+1)}, "257 capabilities; expected at most 256"},
		{hub.Manifest{ID: "a", Requires: make([]string, hub.MaxCapabilities+1)}, "257 capabilities; expected at most 256"},
		{hub.Manifest{ID: "a", Provides: []hub.Capability{{Name: "x", Description: strings.Repeat("y", plugbus.MaxTextBytes+1)}}}, "1025 bytes; expected at most 1024"},
		{caps("a", "x y x", ""), `provides "x" twice`},
		{caps("a", "x y*", ""), "y*"},
		{caps("a", "", "x**"), "x**"},
		{hub.Manifest{ID: "a", Requires: []string{""}}, "empty"},
	} {
		h := open(t, hub.Options{})
		err := h.Register(t.Context(), hub.Func(test.manifest, nil))
		require.ErrorIs(t, err, plugbus.ErrInvalid, "%v", test.manifest)
		require.ErrorContains(t, err, test.says)
		require.Empty(t, h.Plugins())
	}
	h := open(t, hub.Options{})
	require.ErrorIs(t, h.Register(t.Context(), nil), plugbus.ErrInvalid)
	require.ErrorContains(t, h.Register(t.Context(), (*plug)(nil)), "Manifest panicked")
	require.NoError(t, h.Register(t.Context()))
	require.NoError(t, h.Register(t.Context(), hub.Func(hub.Manifest{ID: "a"}, nil)), "a Func needs no function")
}

// TestH3ManifestIsCalledOnce shows that a plugin cannot change its manifest
// after the checks, neither by answering anew nor by what it holds on to.
func TestH3ManifestIsCalledOnce(t *testing.T) {
	h := open(t, hub.Options{})
	m := caps("a", "x", "")
	m.Requires = []string{"x"}
	calls := 0
	p := &plug{manifest: func() hub.Manifest {
		calls++
		return m
	}}
	require.NoError(t, h.Register(t.Context(), p))
	m.ID, m.Provides[0].Name, m.Requires[0] = "b", "y", "z"
	info := h.Inspect().Plugins[0]
	require.Equal(t, "a", info.ID)
	require.Equal(t, "x", info.Provides[0].Name)
	require.Equal(t, "x", info.Requires[0])
	info.Provides[0].Name = "y"
	require.Equal(t, "x", h.Inspect().Plugins[0].Provides[0].Name, "what Inspect returns is a copy")
	require.Equal(t, 1, calls)

	m = caps("c", "x", "")
	f := hub.Func(m, nil)
	m.Provides[0].Name = "y"
	require.Equal(t, "x", f.Manifest().Provides[0].Name, "Func copies too")
}

// TestRegisterRights shows that the policy must let a plugin provide and require
// what it says; each refusal is recorded (S4).
func TestRegisterRights(t *testing.T) {
	h := open(t, hub.Options{Policy: policyOf(t, `
		"provider": {"provide": {"allow": ["files.*"]}},
		"user": {"discover": {"allow": ["files.read"]}}`)})
	var d diary
	for _, test := range []struct {
		manifest hub.Manifest
		verb     plugbus.Verb
		object   string
	}{
		{caps("provider", "files.read secrets.read", ""), plugbus.VerbProvide, "secrets.read"},
		{caps("user", "files.read", ""), plugbus.VerbProvide, "files.read"},
	} {
		err := h.Register(t.Context(), d.of(test.manifest, nil))
		require.ErrorContains(t, err, fmt.Sprintf("; to allow it: add %q to plugins.%s.%v.allow", test.object, test.manifest.ID, test.verb))
		refusal := refusalOf(t, err, plugbus.ReasonInsufficientPermissions)
		require.Equal(t, test.verb, refusal.Verb)
		require.Equal(t, test.object, refusal.Object)
		entry, ok := h.Audit().Get(refusal.Record)
		require.True(t, ok)
		require.Equal(t, test.manifest.ID, entry.Actor)
	}
	err := h.Register(t.Context(), d.of(caps("provider", "files.read files.write", ""), nil), d.of(caps("user", "", "files.read files.write"), nil))
	require.Equal(t, "files.write", refusalOf(t, err, plugbus.ReasonInsufficientPermissions).Object)
	require.Empty(t, d.lines)
	require.Empty(t, h.Plugins())
	require.NoError(t, h.Register(t.Context(), d.of(caps("user", "", "files.read"), nil), d.of(caps("provider", "files.read", ""), nil)))
}

func TestMaxPlugins(t *testing.T) {
	h := open(t, hub.Options{MaxPlugins: 2})
	join(t, h, "a")
	err := h.Register(t.Context(), hub.Func(hub.Manifest{ID: "b"}, nil), hub.Func(hub.Manifest{ID: "c"}, nil))
	require.ErrorIs(t, err, plugbus.ErrInvalid)
	require.ErrorContains(t, err, "Options.MaxPlugins")
	join(t, h, "b")
	require.NoError(t, h.Unregister(t.Context(), "a"))
	join(t, h, "c")
}

// TestH5ReregisterStartsClean shows that an id that joins again inherits
// nothing: no subscription, no figure, no failure. What it took of its rates
// stays taken (L6).
func TestH5ReregisterStartsClean(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, hub.Options{Policy: policyOf(t, `"a": {"emit": true, "subscribe": true, "rates": {"events": {"limit": 4, "burst": 4}}}, "b": {"emit": true}`)})
		old, b := join(t, h, "a"), join(t, h, "b")
		var calls int
		_, err := old.Subscribe("word.*", func(context.Context, events.Event) error {
			calls++
			return errPlugin
		})
		require.NoError(t, err)
		emit(t, b, "word.said", 1)
		emit(t, old, "word.said", 1)
		idle(t, h)
		require.Equal(t, 2, calls)
		require.NoError(t, h.Unregister(t.Context(), "a"))

		again := join(t, h, "a")
		info := h.Inspect().Plugins[0]
		require.Equal(t, "a", info.ID)
		require.Zero(t, info.Failures)
		require.Empty(t, info.LastError)
		require.Zero(t, info.Emitted)
		require.Empty(t, info.Subscriptions)
		emit(t, b, "word.said", 1)
		idle(t, h)
		require.Equal(t, 2, calls)
		box := listen(t, again, "word.*")
		emit(t, b, "word.said", 1)
		idle(t, h)
		require.Equal(t, []string{"word.said"}, box.names(), "handled once")

		var refused error
		for range 4 {
			_, err := again.Emit(t.Context(), "word.said", 1)
			refused = errors.Join(refused, err)
		}
		denied(t, refused, plugbus.ReasonRateLimitExceeded)
		_, err = old.Emit(t.Context(), "word.said", 1)
		require.ErrorIs(t, err, plugbus.ErrClosed, "the old handle stays dead")
	})
}

// TestRegisterOnAClosedHub shows that no code of the plugin runs.
func TestRegisterOnAClosedHub(t *testing.T) {
	h := open(t, hub.Options{})
	_, err := h.Close(t.Context())
	require.NoError(t, err)
	p := &plug{manifest: func() hub.Manifest { panic("called") }}
	require.ErrorIs(t, h.Register(t.Context(), p), hub.ErrClosed)
	require.ErrorIs(t, h.Register(t.Context()), plugbus.ErrClosed)
	require.ErrorIs(t, h.Unregister(t.Context(), "a"), plugbus.ErrClosed)
	require.ErrorIs(t, h.Restore("a"), plugbus.ErrClosed)
}

// TestUnknownPlugin shows what calls about a plugin that is not there return.
func TestUnknownPlugin(t *testing.T) {
	h := open(t, hub.Options{})
	for _, id := range []string{"a", security.HostID, "hub", ""} {
		require.ErrorIs(t, h.Unregister(t.Context(), id), hub.ErrUnknownPlugin, "%q", id)
	}
	require.ErrorIs(t, h.Restore("a"), hub.ErrUnknownPlugin)
	require.EqualError(t, h.Unregister(t.Context(), "a"), `unregister "a": hub: no such plugin; none has joined under this id, or it leaves`)
}
