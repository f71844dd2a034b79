package hub

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/discovery"
	"github.com/plugbus/plugbus/events"
	"github.com/plugbus/plugbus/internal/topic"
)

// A Plugin is what joins a hub. A plugin may also be a [Stopper], an
// [EventReceiver] and a [HealthChecker]; the hub finds out once, when the plugin
// is registered.
type Plugin interface {
	// Manifest says what the plugin is. It is called once.
	Manifest() Manifest

	// Start begins the plugin's work: it subscribes, and keeps the session for
	// what it does later. ctx bounds Start only. No handler of the plugin runs
	// before Start has returned, but for concurrent ones. If it returns an error,
	// or returns after ctx is done, the plugin does not join, and no handler of
	// it runs.
	Start(ctx context.Context, hub *Session) error
}

// A Stopper is told before it leaves. What was queued for it has been handled
// then, and its session still works, but that a hub which closes accepts no more
// events; both end when ctx is done.
type Stopper interface {
	Stop(ctx context.Context) error
}

// An EventReceiver gets the broadcasts that are meant for it and that it may
// subscribe to, without a subscription.
type EventReceiver interface {
	ReceiveEvent(ctx context.Context, e events.Event) error
}

// A HealthChecker says whether it is well when [Hub.Health] asks, or when it is in
// quarantine and the hub probes whether to let it go on: see [Options.ProbeAfter]. It
// runs like a handler, so a plugin that hangs cannot answer. In quarantine every act of
// its session is refused, so Health looks at what the plugin has itself.
type HealthChecker interface {
	Health(ctx context.Context) error
}

// A Dependant hears when nobody provides any more a capability that its manifest
// requires. It runs like a handler. The hub also tells it by
// [EventRequirementLost].
type Dependant interface {
	RequirementLost(ctx context.Context, capability string) error
}

// A Manifest says what a plugin is.
type Manifest struct {
	// ID is the name by which the policy and the others know the plugin: one
	// token of ASCII letters, digits, "_", "-" and "~".
	ID string

	// Version is for people, and part of the announcements. At most 64 bytes,
	// without control characters. If it is one of SemVer 2.0, it is also that of
	// the capabilities that have none of their own.
	Version string

	// Provides lists the capabilities that the plugin has for others, each of
	// which the policy must let it provide. The plugin handles the messages of
	// that type, by Session.Handle, HandleStream or Provide. At most
	// MaxCapabilities.
	Provides []Capability

	// Requires lists the capabilities that must be there before the plugin
	// starts, each of which the policy must let it discover. At most
	// MaxCapabilities.
	Requires []string
}

// A Capability is a named thing that a plugin provides: see
// [discovery.Capability].
type Capability = discovery.Capability

// MaxCapabilities bounds what one manifest provides, and what it requires.
const MaxCapabilities = 256

func (m Manifest) clone() Manifest {
	m.Provides = slices.Clone(m.Provides)
	for i, c := range m.Provides {
		m.Provides[i] = c.Clone()
	}
	m.Requires = slices.Clone(m.Requires)
	return m
}

// check reports all mistakes but those of the id.
func (m Manifest) check() error {
	if n := max(len(m.Provides), len(m.Requires)); n > MaxCapabilities {
		return fmt.Errorf("it lists %d capabilities; expected at most %d: %w", n, MaxCapabilities, plugbus.ErrInvalid)
	}
	var errs []error
	wrong := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf(format+": %w", append(args, plugbus.ErrInvalid)...))
	}
	if len(m.Version) > 64 || strings.ContainsFunc(m.Version, unicode.IsControl) {
		wrong("the version is %q; expected at most 64 bytes without control characters", plugbus.CutText(m.Version))
	}
	provided := map[string]bool{}
	for _, c := range m.Provides {
		errs = append(errs, c.Check())
		if provided[c.Name] {
			wrong("it provides %q twice", plugbus.CutText(c.Name))
		}
		provided[c.Name] = true
	}
	for _, name := range m.Requires {
		errs = append(errs, topic.CheckName(name))
	}
	return errors.Join(errs...)
}

// Func makes a plugin of a function, for those that need no type.
func Func(manifest Manifest, start func(ctx context.Context, hub *Session) error) Plugin {
	return &funcPlugin{manifest.clone(), start}
}

type funcPlugin struct {
	manifest Manifest
	start    func(ctx context.Context, hub *Session) error
}

func (p *funcPlugin) Manifest() Manifest { return p.manifest }

func (p *funcPlugin) Start(ctx context.Context, hub *Session) error {
	if p.start == nil {
		return nil
	}
	return p.start(ctx, hub)
}
