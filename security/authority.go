package security

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/audit"
	"github.com/plugbus/plugbus/internal/clock"
	"github.com/plugbus/plugbus/internal/topic"
)

// Options configure an [Authority]. The zero value denies everything.
type Options struct {
	// Policy is the first policy. If nil, nothing is allowed.
	Policy *Policy

	// Audit gets an entry for each refusal, alert and change. If nil, nothing
	// is recorded.
	Audit *audit.Log

	// Alert is told of each alert, on the goroutine of the act that raised it.
	// It must not block, and must not act on the bus: a hub puts the alert into
	// a queue. It may be nil.
	Alert func(Alert)

	// AlertRatio is the share of what a rate admits in a [Window] from which
	// there are alerts, more than 0 and at most 100. If zero, it is 0.5.
	AlertRatio float64

	// AlertRefusals is the number of refusals in a [Window] from which there
	// are alerts, 1 to 1,000,000. If zero, it is 20.
	AlertRefusals int

	// ExplainToPlugins puts the rule and the remedy into the errors that
	// plugins get, and hides nothing from them. It is for development.
	ExplainToPlugins bool

	// Keep is how many earlier policies are kept for PermitAt, at most 1,000.
	// If zero, it is 16.
	Keep int

	// Changed is called after each [Authority.Swap] and [Authority.SetTrust], when the
	// change is in force, and before they return. It must not block, and may be nil.
	Changed func()

	// Provides returns the capabilities of a plugin. Who may discover one of
	// them may know of the plugin. It must not block. What it returns may change
	// without a new version. If nil, a plugin may know only of those that its
	// send right names.
	Provides func(id string) []string
}

// check fills in the defaults, and reports every mistake.
func (o *Options) check() error {
	var errs []error
	if o.AlertRatio < 0 || o.AlertRatio > 100 || math.IsNaN(o.AlertRatio) {
		errs = append(errs, fmt.Errorf("Options.AlertRatio is %v; expected 0 for the default of 0.5, or up to 100", o.AlertRatio))
	}
	if o.AlertRefusals < 0 || o.AlertRefusals > 1_000_000 {
		errs = append(errs, fmt.Errorf("Options.AlertRefusals is %d; expected 0 for the default of 20, or up to 1,000,000", o.AlertRefusals))
	}
	if o.Keep < 0 || o.Keep > 1000 {
		errs = append(errs, fmt.Errorf("Options.Keep is %d; expected 0 for the default of 16, or up to 1,000", o.Keep))
	}
	if len(errs) > 0 {
		return fmt.Errorf("security: %w: %w", plugbus.ErrInvalid, errors.Join(errs...))
	}
	if o.AlertRatio == 0 {
		o.AlertRatio = 0.5
	}
	if o.AlertRefusals == 0 {
		o.AlertRefusals = 20
	}
	if o.Keep == 0 {
		o.Keep = 16
	}
	return nil
}

// An Authority holds the policy in force, and makes a [Subject] for each
// plugin. Only the host may hold it. Its methods may be called by several
// goroutines; reads take no lock.
type Authority struct {
	options Options
	clock   *clock.Clock
	start   time.Time
	state   atomic.Pointer[state]

	mu       sync.Mutex // guards below, and changes of state
	accounts map[string]*account
	left     *simplelru.LRU[string, *account]
}

// A state is what is in force, and what was. It is immutable.
type state struct {
	rules
	old []rules // newest first
}

// rules are a policy with its number.
type rules struct {
	version uint64
	policy  *Policy
}

// maxLeft bounds the accounts of plugins that have left.
const maxLeft = 4096

// New returns an authority. The error matches plugbus.ErrInvalid, and names
// every option that is out of its range.
func New(o Options) (*Authority, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	left, err := simplelru.NewLRU[string, *account](maxLeft, nil)
	if err != nil {
		return nil, fmt.Errorf("security: %w", err)
	}
	a := &Authority{options: o, clock: clock.New(), accounts: map[string]*account{}, left: left}
	a.start = a.clock.Now()
	a.state.Store(&state{rules: rules{1, o.Policy}})
	return a, nil
}

// Version returns the version of the policy in force. The first is 1.
func (a *Authority) Version() uint64 { return a.state.Load().version }

// Policy returns the policy in force, which may be nil.
func (a *Authority) Policy() *Policy { return a.state.Load().policy }

// Swap puts another policy in force, and returns its version. Every decision
// that begins after Swap returned is made by the new policy alone; none is ever
// made by parts of both. A nil policy denies everything.
//
// The change is recorded with the actor, before it is made. If the audit log
// cannot take the record, the policy stays, and the error matches
// audit.ErrUnavailable or plugbus.ErrClosed.
func (a *Authority) Swap(actor string, p *Policy) (uint64, error) {
	version, err := a.swap(actor, p)
	if err == nil {
		a.changed()
	}
	return version, err
}

func (a *Authority) swap(actor string, p *Policy) (uint64, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	before := a.state.Load()
	err := a.change(p, audit.Entry{
		Event: "policy.swapped", Actor: actor,
		Details: append([]audit.Detail{
			{Key: "before", Value: summary(before.policy)},
			{Key: "after", Value: summary(p)},
		}, differences(before.policy, p)...),
	})
	if err != nil {
		return before.version, fmt.Errorf("security: the policy stays: %w", err)
	}
	return before.version + 1, nil
}

// SetTrust changes the trust of one plugin: it puts a copy of the policy that
// differs in nothing else in force. It holds until the next [Authority.Swap],
// since a policy says everything.
//
// The error matches plugbus.ErrInvalid if the policy does not know the id, or
// there is no such level, and otherwise is as for Swap.
func (a *Authority) SetTrust(actor, id string, level plugbus.Trust) error {
	err := a.setTrust(actor, id, level)
	if err == nil {
		a.changed()
	}
	return err
}

func (a *Authority) setTrust(actor, id string, level plugbus.Trust) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	p := a.state.Load().policy
	before := p.lookup(id)
	switch {
	case level > plugbus.Verified:
		return fmt.Errorf("security: set the trust of %q: %w: no trust level has the number %d", id, plugbus.ErrInvalid, level)
	case before == nil:
		return fmt.Errorf("security: set the trust of %q: %w: %s", id, plugbus.ErrInvalid, unknown(id, p))
	case before.all:
		return fmt.Errorf("security: set the trust of %q: %w: the host is always verified", id, plugbus.ErrInvalid)
	}
	err := a.change(p.withTrust(id, level), audit.Entry{
		Event: "trust.changed", Actor: actor, Target: id,
		Details: []audit.Detail{
			{Key: "before", Value: before.Trust.String()},
			{Key: "after", Value: level.String()},
		},
	})
	if err != nil {
		return fmt.Errorf("security: the trust of %q stays: %w", id, err)
	}
	return nil
}

// changed tells of a change. The mutex is not held.
func (a *Authority) changed() {
	if a.options.Changed != nil {
		a.options.Changed()
	}
}

// change records a change and makes it. The mutex is held.
func (a *Authority) change(p *Policy, e audit.Entry) error {
	before := a.state.Load()
	next := &state{rules: rules{before.version + 1, p}}
	next.old = append(next.old, before.rules)
	next.old = append(next.old, before.old[:min(len(before.old), a.options.Keep-1)]...)

	e.Admin = true
	e.Outcome = plugbus.Handled
	e.Details = append(e.Details, audit.Detail{Key: "version", Value: fmt.Sprint(next.version)})
	if a.options.Audit != nil {
		if _, err := a.options.Audit.Record(e); err != nil {
			return err
		}
	}
	// The rates first: a permit of the new policy finds its meters.
	now := a.clock.Now()
	for _, c := range a.accounts {
		c.apply(p, now)
	}
	a.state.Store(next)
	return nil
}

// record records an entry of which nothing depends, and returns its number.
func (a *Authority) record(e audit.Entry) uint64 {
	if a.options.Audit == nil {
		return 0
	}
	seq, err := a.options.Audit.Record(e)
	if err != nil && seq == 0 {
		return 0 // the log is closed
	}
	return seq
}

// Join returns the guard of a plugin, for one session of it. An id that the
// policy does not know gets a [*JoinError], which is recorded. A plugin may
// have several sessions; they share its rates.
func (a *Authority) Join(id string) (*Subject, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	p := a.state.Load().policy
	e := &JoinError{Plugin: plugbus.CutText(id)}
	if err := topic.CheckID(id); err != nil {
		e.Reason, e.Problem = plugbus.ReasonInvalidName, err.Error()
	} else if topic.ReservedID(id) {
		e.Reason, e.Problem = plugbus.ReasonReservedName, "the id belongs to the hub; choose another"
	} else if p.lookup(id) == nil {
		e.Reason, e.Problem = plugbus.ReasonUnknownPlugin, unknown(id, p)
	} else {
		return a.join(id), nil
	}
	e.Record = a.record(audit.Entry{
		Event: "join.refused", Actor: HostID, Target: e.Plugin, Outcome: plugbus.Refused, Reason: e.Reason,
		Details: []audit.Detail{{Key: "problem", Value: e.Problem}},
	})
	return nil, e
}

// JoinHost returns the guard of the host itself, whose id is [HostID]. It may
// do everything but what belongs to the hub, at any rate; what it is refused is
// recorded as for plugins.
func (a *Authority) JoinHost() *Subject {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.join(HostID)
}

// join opens a session of an account. The mutex is held.
func (a *Authority) join(id string) *Subject {
	c := a.accounts[id]
	if c == nil {
		id = strings.Clone(id)
		if c, _ = a.left.Peek(id); c == nil {
			c = newAccount(a, id)
		}
		a.left.Remove(id)
		a.accounts[id] = c
		c.apply(a.state.Load().policy, a.clock.Now())
	}
	c.sessions++
	return newSubject(a, c)
}

// leave closes a session of an account.
func (a *Authority) leave(c *account) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if c.sessions--; c.sessions == 0 {
		c.lapse()
		delete(a.accounts, c.id)
		a.left.Add(c.id, c)
	}
}

// Subjects returns the ids that have joined, sorted.
func (a *Authority) Subjects() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Sorted(maps.Keys(a.accounts))
}

// Usage returns what a plugin did in the last [Window], and false if it never
// joined or left too long ago.
func (a *Authority) Usage(id string) (Usage, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	c := a.accounts[id]
	if c == nil {
		c, _ = a.left.Peek(id)
	}
	if c == nil {
		return Usage{}, false
	}
	return c.usage(a.clock.Now()), true
}

// Explain says why a plugin may, or may not, do verb to object now. It runs
// the code that enforces, and records nothing.
func (a *Authority) Explain(id string, verb plugbus.Verb, object string) Explanation {
	now := a.state.Load()
	e := now.policy.Explain(id, verb, object)
	e.Version = now.version
	return e
}

// A JoinError reports that a plugin could not join. It matches
// plugbus.ErrDenied, and plugbus.ErrInvalid if its id is none.
type JoinError struct {
	Plugin  string
	Reason  plugbus.Reason // invalid_name, reserved_name or unknown_plugin
	Problem string         // what is wrong, and what to do
	Record  uint64         // the number of the audit entry
}

// Error says who could not join, and what to do.
func (e *JoinError) Error() string {
	s := fmt.Sprintf("plugin %q may not join: %s: %s", e.Plugin, e.Reason, e.Problem)
	if e.Record != 0 {
		s += fmt.Sprintf(" (audit record %d)", e.Record)
	}
	return s
}

// Is reports whether target is [plugbus.ErrDenied], or [plugbus.ErrInvalid] for
// an id that no policy could have.
func (e *JoinError) Is(target error) bool {
	switch target {
	case plugbus.ErrDenied:
		return true
	case plugbus.ErrInvalid:
		return e.Reason == plugbus.ReasonInvalidName
	}
	return false
}

// unknown says what to do about an id that is not in the policy.
func unknown(id string, p *Policy) string {
	s := fmt.Sprintf("%v does not have it; add %q under \"plugins\"", p, id)
	if near := nearest(id, p.Plugins()); near != "" {
		s += fmt.Sprintf(", or did you mean %q?", near)
	}
	return s
}

// summary describes a policy for the audit log.
func summary(p *Policy) string { return fmt.Sprintf("%v, digest %s", p, p.Digest()) }

// differences names the plugins for which two policies differ.
func differences(before, after *Policy) []audit.Detail {
	var added, removed, changed []string
	for _, id := range after.Plugins() {
		if _, ok := before.grantRules(id); !ok {
			added = append(added, id)
		}
	}
	for _, id := range before.Plugins() {
		old, _ := before.grantRules(id)
		if rules, ok := after.grantRules(id); !ok {
			removed = append(removed, id)
		} else if rules != old {
			changed = append(changed, id)
		}
	}
	var details []audit.Detail
	for _, d := range []struct {
		key string
		ids []string
	}{{"added", added}, {"removed", removed}, {"changed", changed}} {
		if len(d.ids) > 0 {
			details = append(details, audit.Detail{Key: d.key, Value: fmt.Sprintf("%d: %s", len(d.ids), strings.Join(d.ids, " "))})
		}
	}
	return details
}
