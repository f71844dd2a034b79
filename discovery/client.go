package discovery

import (
	"fmt"
	"slices"
	"strings"

	"github.com/Masterminds/semver/v3"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/internal/door"
	"github.com/plugbus/plugbus/internal/payload"
)

// A Client is one plugin's handle to an index: what it provides it provides as
// this plugin, and what it finds is what this plugin may see. Its methods may be
// called by several goroutines.
type Client struct {
	index    *Index
	id       string
	guard    plugbus.Guard
	version  *semver.Version // nil if it is unknown
	quota    int             // of capabilities
	maxBytes int

	// Under index.mu.
	ended   bool
	held    bool               // it is to succeed another
	listed  bool               // others find what it provides
	records []*record          // sorted by name; replaced, never changed
	bytes   int                // of the texts in them
	windows map[string]*window // of what is provided, and of former
	former  []string           // what was withdrawn and has been called, the oldest first
}

// ID returns the id of the plugin.
func (c *Client) ID() string { return c.id }

// Provide declares a capability, which the client keeps a copy of. What it
// declared before under this name is replaced as a whole. The error is a
// [*plugbus.DeniedError], or [ErrClosed], or tells all that is wrong with the
// capability: it matches [plugbus.ErrInvalid], and has an [*InvalidError] for each
// mistake.
func (c *Client) Provide(capability Capability) error {
	name := plugbus.CutText(capability.Name)
	if c.hasEnded() {
		return fmt.Errorf("plugin %q provides %q: %w", c.id, name, ErrClosed)
	}
	act := c.act(plugbus.VerbProvide, capability.Name)
	parcel := door.Parcel{Data: capability}
	if _, refusal := door.Check(c.index.clock, &act, &parcel); refusal != nil {
		return c.guard.Refuse(*refusal)
	}
	own, _ := payload.Thaw(parcel.Data).(Capability) // The copy that was checked.
	r, err := newRecord(own, c.version)
	if err != nil {
		return fmt.Errorf("plugin %q provides %q: %w", c.id, name, err)
	}
	hint, err := c.put(r)
	if err != nil {
		return fmt.Errorf("plugin %q provides %q: %w", c.id, name, err)
	}
	if hint != "" {
		return c.guard.Refuse(plugbus.Refusal{Verb: plugbus.VerbProvide, Object: r.Name, Reason: plugbus.ReasonQuotaExceeded, Hint: hint})
	}
	return nil
}

// act is what the client wants to do, for the door.
func (c *Client) act(verb plugbus.Verb, name string) door.Act {
	return door.Act{
		Plugin: c.id, Verb: verb, Object: name, MaxDepth: 1,
		Permit: door.Sound(c.guard.Permit(verb, name), verb, name),
	}
}

// put puts a record in its place, or says which quota has no room for it.
func (c *Client) put(r *record) (hint string, err error) {
	x := c.index
	x.mu.Lock()
	defer x.mu.Unlock()
	if c.ended {
		return "", ErrClosed
	}
	count, bytes := 1, r.bytes
	if old := c.record(r.Name); old != nil {
		count, bytes = 0, r.bytes-old.bytes
	}
	switch {
	case len(c.records)+count > c.quota:
		return fmt.Sprintf("the plugin may provide at most %d capabilities; withdraw one", c.quota), nil
	case c.bytes+bytes > c.maxBytes:
		return fmt.Sprintf("the texts of all that the plugin provides may have at most %d bytes; shorten them", c.maxBytes), nil
	case x.count+count > x.opts.MaxCapabilities:
		return "the index is full; the host can raise Options.MaxCapabilities", nil
	}
	r.client = c
	if r.window = c.windows[r.Name]; r.window == nil {
		r.window = &window{}
		c.windows[r.Name] = r.window
	}
	c.former = slices.DeleteFunc(c.former, func(name string) bool { return name == r.Name })
	x.put(c, r.Name, r)
	return "", nil
}

// Withdraw ends what Provide began. The error matches [ErrNotProvided] or
// [ErrClosed].
func (c *Client) Withdraw(name string) error {
	x := c.index
	x.mu.Lock()
	defer x.mu.Unlock()
	r := c.record(name)
	switch {
	case c.ended:
		return fmt.Errorf("plugin %q withdraws %q: %w", c.id, plugbus.CutText(name), ErrClosed)
	case r == nil:
		return fmt.Errorf("plugin %q withdraws %q: %w", c.id, plugbus.CutText(name), ErrNotProvided)
	}
	x.put(c, name, nil)
	if r.window.empty() {
		delete(c.windows, name)
		return nil
	}
	if c.former = append(c.former, r.Name); len(c.former) > c.quota {
		delete(c.windows, c.former[0])
		c.former = slices.Delete(c.former, 0, 1)
	}
	return nil
}

// Close removes all that the client provides, and frees its id. Every later call
// finds nothing, or returns [ErrClosed]. It can be called more than once.
func (c *Client) Close() {
	x := c.index
	x.mu.Lock()
	defer x.mu.Unlock()
	if c.ended {
		return
	}
	c.ended = true
	for _, r := range c.records {
		x.put(c, r.Name, nil)
	}
	c.windows, c.former = nil, nil
	if x.clients[c.id] == c {
		delete(x.clients, c.id)
	}
}

func (c *Client) hasEnded() bool {
	c.index.mu.RLock()
	defer c.index.mu.RUnlock()
	return c.ended
}

// Capability returns what the client may see of a capability that a plugin
// provides: all of it but the access list, unless it is its own.
func (c *Client) Capability(provider, name string) (Capability, bool) {
	r := c.index.recordFor(c, provider, name)
	if r == nil || c.hasEnded() || !c.sight().sees(r) {
		return Capability{}, false
	}
	shown := r.Clone()
	if r.client != c {
		shown.Allowed, shown.Denied = nil, nil
	}
	return shown, true
}

// CheckInput checks a request by the Input of a capability that the client itself
// provides at the moment; without one anything goes. It belongs on the plugin's own
// worker, since a schema costs what its author made of it. A []byte that holds JSON has
// to satisfy it both as that and as the text that it is for encoding/json. The error is
// a [*SchemaError].
func (c *Client) CheckInput(name string, request any) error {
	if r := c.own(name); r != nil && r.input != nil {
		return r.input.ValidatePayload(request)
	}
	return nil
}

// CheckOutput is CheckInput for a reply and the Output.
func (c *Client) CheckOutput(name string, reply any) error {
	if r := c.own(name); r != nil && r.output != nil {
		return r.output.ValidatePayload(reply)
	}
	return nil
}

// own returns what the client provides under a name, or nil.
func (c *Client) own(name string) *record {
	c.index.mu.RLock()
	defer c.index.mu.RUnlock()
	return c.record(name)
}

// record returns what the client provides under a name, or nil. index.mu is held.
func (c *Client) record(name string) *record {
	if at, found := c.place(name); found {
		return c.records[at]
	}
	return nil
}

// place returns where a name is, or would be, in the records. index.mu is held.
func (c *Client) place(name string) (at int, found bool) {
	return slices.BinarySearchFunc(c.records, name, func(r *record, name string) int { return strings.Compare(r.Name, name) })
}
