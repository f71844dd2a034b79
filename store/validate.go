package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/internal/actor"
	"github.com/plugbus/plugbus/internal/chain"
)

// A Validator decides whether a write may be done: an error rejects it, with its text.
// It runs on the worker of the plugin that owns the store, so that it needs no lock,
// and before the write can be seen. Its context ends with the plugin, and when the time
// for it is over; it carries the chain that led to the write. A write to its own store
// with that context is refused as a cycle.
type Validator func(ctx context.Context, p *Proposal) error

// A validator is a function of the owner's session. It is compared by its address.
type validator struct {
	client *Client
	check  Validator
}

// A Proposal is a write of one or more keys, as it would be. It belongs to the call of
// the [Validator].
type Proposal struct {
	draft *draft
	edits []ProposedEdit

	mu   sync.Mutex         // guards below
	pins map[string]*record // what was shown of the store, nil for no entry; nil when it is over
	full bool               // there was no room for one more
}

// A ProposedEdit is what is to become of one key.
type ProposedEdit struct {
	Key string
	Old Entry // does not exist if there is none
	New Entry // the same, if the key is to be deleted; its revision is 0 yet
}

// Store returns the name of the store.
func (p *Proposal) Store() string { return p.draft.space.name }

// Writer returns the id of the plugin that wants to write.
func (p *Proposal) Writer() string { return p.draft.client.id }

// Edits returns what is to become of each key. The caller may change the slice.
func (p *Proposal) Edits() []ProposedEdit { return slices.Clone(p.edits) }

// Get returns what a key will have when the write is done. If that is no longer so when
// it is, the validator is asked again. A validator may read 10,000 keys.
func (p *Proposal) Get(key string) Entry {
	for _, e := range p.edits {
		if e.Key == key {
			return e.New
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pins == nil {
		return Entry{}
	}
	if _, known := p.pins[key]; !known && len(p.pins) >= maxTxReads {
		p.full = true
		return Entry{}
	}
	return Entry{p.pin(key)}
}

// decide calls the validator of c. What its error says is read here, where the validator's
// own limits hold.
func (p *Proposal) decide(ctx context.Context, c *Client, check Validator) error {
	s := p.draft.space
	if !c.access(s, s.name, plugbus.Chain{}, plugbus.VerbRead, Read).permit.Allowed() {
		return errMayNotSee
	}
	c.mu.Lock()
	c.validating = append(c.validating, p.draft.space)
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		c.validating = c.validating[:len(c.validating)-1]
		c.mu.Unlock()
	}()
	if err := check(ctx, p); err != nil {
		return errors.New(plugbus.CutText(err.Error()))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.full {
		return errReadTooMuch
	}
	return nil
}

// errMayNotSee says that a validator was not asked: what it is shown it reads, for which
// its plugin needs the right at that time.
var errMayNotSee = fmt.Errorf("%w: %w: its owner cannot be asked now", errNoVerdict, ErrNoValidator)

// errReadTooMuch is the failure of a validator that could not be shown all that it asked
// for.
var errReadTooMuch = fmt.Errorf("it read more than %d keys", maxTxReads)

// take ends the proposal, and returns what was shown of the store.
func (p *Proposal) take() (pins []expectation) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for key, r := range p.pins {
		e := expectation{key: key}
		if r != nil {
			e.revision = r.revision
		}
		pins = append(pins, e)
	}
	p.pins = nil
	return pins
}

// pin reads a key, and remembers it. p.mu is held, or nobody else has p yet.
func (p *Proposal) pin(key string) *record {
	if r, ok := p.pins[key]; ok {
		return r
	}
	s := p.draft.space
	s.mu.RLock()
	r := s.entries[key]
	s.mu.RUnlock()
	if r.gone(p.draft.now) {
		r = nil
	}
	p.pins[private(key)] = r
	return r
}

// newProposal makes the proposal of a draft.
func newProposal(d *draft) *Proposal {
	p := &Proposal{draft: d, pins: map[string]*record{}}
	for i := range d.edits {
		e := &d.edits[i]
		edit := ProposedEdit{Key: e.key, Old: Entry{p.pin(e.key)}}
		if !e.delete {
			edit.New = Entry{&record{key: e.key, value: e.value, writer: d.client.id, at: d.now, expires: e.expires, place: -1}}
		}
		p.edits = append(p.edits, edit)
	}
	return p
}

// fits checks what needs nobody else: the schema. Its cost is bounded, and the writer's.
func (d *draft) fits() error {
	s := d.space
	for i := range d.edits {
		e := &d.edits[i]
		if e.delete || s.schema == nil {
			continue
		}
		err := errors.New("it is not JSON, as the schema of the store needs")
		if json.Valid([]byte(e.value)) {
			err = s.schema.Validate(json.RawMessage(e.value))
		}
		if err != nil {
			return d.reject(plugbus.ReasonRejected, &RejectedError{Store: s.name, Key: e.key, Err: err})
		}
	}
	return nil
}

// reject refuses a draft.
func (d *draft) reject(reason plugbus.Reason, why *RejectedError) error {
	return d.client.refuse(plugbus.Refusal{
		Verb: plugbus.VerbWrite, Object: d.space.name, Reason: reason, Chain: d.pass.cause, Cause: why,
		Rule: "the schema or validator of the store",
	})
}

// validate asks the validator of the store, if it has one. What that has seen is pinned.
func (d *draft) validate(ctx context.Context) error {
	s, c := d.space, d.client
	s.mu.RLock()
	d.guarded, d.validator = s.guarded, s.validator
	s.mu.RUnlock()
	d.pins = nil
	v := d.validator
	switch {
	case !d.guarded:
		return nil
	case v == nil:
		return fmt.Errorf("%w: nobody can write until %s has joined and called View.SetValidator", ErrNoValidator, c.called("its owner", s.owner))
	}
	if d.deadline.IsZero() { // It is for all the times that it has to be asked.
		d.deadline = time.Now().Add(c.db.opts.ValidateLimit)
	}
	p := newProposal(d)
	led, by := d.led, actor.Beside(ctx)
	waits := actor.Owner(ctx) == c.actor && c.actor.Serves(chain.From(ctx)) // A handler of the writer does.
	if v.client != c && v.client.id == c.id {
		waits = false // The one whose place the writer is to take has a worker of its own.
	}
	if waits {
		led = d.pass.cause.Await(c.id, by)
	}
	inline := waits && by == nil && v.client == c
	if inline && c.validates(s) || waits && !inline && led.Waiting(s.owner, nil) > 0 {
		return c.refuse(plugbus.Refusal{
			Verb: plugbus.VerbWrite, Object: s.name, Reason: plugbus.ReasonCycle, Chain: led,
			Hint: fmt.Sprintf("the write would wait for itself: the validator of the store runs on the worker of %q, which waits for this", s.owner),
		})
	}
	var verdict error
	if inline {
		verdict = v.inline(ctx, p, led)
	} else {
		verdict = v.client.ask(ctx, &errand{writer: c, check: v.check, proposal: p, led: led, deadline: d.deadline})
	}
	d.pins = p.take()
	if errors.Is(verdict, errNoVerdict) && s.revalidates(v) {
		return nil // The next look finds another validator, which is asked.
	}
	return d.judge(verdict)
}

// validates reports whether the worker runs the validator of a store.
func (c *Client) validates(s *space) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Contains(c.validating, s)
}

// judge returns what becomes of a draft by the verdict of its validator.
func (d *draft) judge(verdict error) error {
	switch {
	case verdict == nil:
		return nil
	case errors.Is(verdict, errNoVerdict):
		return fmt.Errorf("%w: %w", ErrNotDone, verdict)
	}
	reason, code := plugbus.ReasonRejected, plugbus.CodeInvalid
	if faulty(verdict) {
		reason, code = plugbus.ReasonCheckFailed, plugbus.CodeInternal
	}
	return d.reject(reason, &RejectedError{Store: d.space.name, Err: &plugbus.RemoteError{
		Plugin: d.client.known(d.space.owner), Code: code, Message: plugbus.CutText(verdict.Error()),
	}})
}

// faulty reports whether the validator failed, and did not decide.
func faulty(verdict error) bool {
	if _, panicked := errors.AsType[*PanicError](verdict); panicked {
		return true
	}
	return errors.Is(verdict, ErrGoexit) || errors.Is(verdict, ErrTimedOut) || errors.Is(verdict, errReadTooMuch)
}

// inline calls the validator for a write of the owner from a handler of its own, which
// stands still meanwhile. Nobody can abandon it: whoever waits is the plugin itself.
func (v *validator) inline(ctx context.Context, p *Proposal, led plugbus.Chain) (err error) { //nolint:contextcheck // The validator gets a context of its own.
	c := v.client
	limited, cancel := context.WithTimeout(c.actor.NewContext(c.session, led), c.db.opts.ValidateLimit) //nolint:contextcheck // The same.
	defer cancel()
	c.actor.Serve(led)
	defer c.actor.Serve(chain.From(ctx))
	defer func() {
		if r := recover(); r != nil {
			err = panicked(r)
		} else if errors.Is(limited.Err(), context.DeadlineExceeded) {
			err = ErrTimedOut
		}
		if faulty(err) {
			failure := p.draft.failure(c)
			failure.Err = err
			c.report(failure)
		}
	}()
	return p.decide(limited, c, v.check) //nolint:contextcheck // The same.
}

// failure returns what the host is to hear if the validator of c fails.
func (d *draft) failure(c *Client) Failure {
	f := Failure{Plugin: c.id, Store: d.space.name, What: "validator", Writer: d.client.id}
	if len(d.edits) == 1 {
		f.Key = d.edits[0].key
	}
	return f
}

// SetValidator sets the validator of the store, or takes it away if it is nil. Only the
// owner can: the validator is a function of its session. When the owner leaves, nobody
// can write until it has joined again and set it again.
func (v *View) SetValidator(ctx context.Context, check Validator) error {
	const act = "set the validator of"
	c, s := v.client, v.space
	cause, release, err := v.admin(ctx, act)
	if err != nil {
		return err
	}
	if c.id != s.owner {
		release()
		return c.refuse(plugbus.Refusal{
			Verb: plugbus.VerbWrite, Object: s.name, Reason: plugbus.ReasonInsufficientPermissions,
			Chain: cause, Hint: "only the owner of a store sets its validator",
		})
	}
	var next *validator
	if check != nil {
		next = &validator{client: c, check: check}
	}
	if err := c.guardBy(ctx, s, next, release); err != nil {
		return v.failed(act, err)
	}
	return nil
}

// guardBy makes next the validator of a store, or takes it away if it is nil, and calls
// release at the end of that; a client that is held does so when it settles.
func (c *Client) guardBy(ctx context.Context, s *space, next *validator, release func()) error {
	guards := next != nil
	s.mu.Lock()
	sealed, same := s.sealed, s.guarded == guards
	put := !sealed && c.putOff(s, next)
	if !put && !sealed && same && !c.ended.Load() {
		s.validator = next
	}
	s.mu.Unlock()
	switch {
	case sealed:
		release()
		return ErrDropped
	case put || same:
		release()
		return nil
	}
	p := &pending{name: s.name, apply: func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.guarded, s.validator = guards, next
		if c.ended.Load() { // It left meanwhile, and takes no notice of what comes after.
			s.validator = nil
		}
	}}
	if s.config.Persistent {
		p.ops = []Op{{bucketMetas, s.name, s.encodeMeta(s.acl.Load(), guards)}}
	}
	told := Administration{Act: "store.validator", Persistent: s.config.Persistent, Detail: "none"}
	if guards {
		told.Detail = "a function of " + c.id
	}
	return c.perform(ctx, p, told, func(error) { release() })
}
