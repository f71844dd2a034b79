package discovery

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/Masterminds/semver/v3"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/internal/schema"
	"github.com/plugbus/plugbus/internal/strictjson"
	"github.com/plugbus/plugbus/internal/topic"
)

// The limits of a [Capability]. A description has at most plugbus.MaxTextBytes.
const (
	MaxDocumentation = 64 << 10       // bytes
	MaxSchema        = 256 << 10      // bytes
	MaxCategories    = 32             // names
	MaxExamples      = 32             // texts
	MaxExampleBytes  = 64 << 10       // of all examples together
	MaxMetadata      = 64             // entries
	MaxMetadataBytes = 16 << 10       // of all keys and values together
	MaxAccess        = 1000           // ids in each access list
	MaxCost          = 1e9            // in whatever unit the plugins of a hub agree on
	MaxResponseTime  = 24 * time.Hour // declared
	MaxRank          = 1_000_000      // either way
)

// A Capability is what a plugin declares about a named thing that it provides.
type Capability struct {
	// Name is a name of the bus, such as "pdf.render". It is also the type of the
	// messages that call the capability.
	Name string

	// Description and Documentation are for people.
	Description, Documentation string

	// Version is a version of SemVer 2.0. If empty, it is that of the client, if
	// this is one; otherwise it is unknown.
	Version string

	// Categories are names, each of which counts once.
	Categories []string

	// Rank decides between providers of the same score: the higher is first.
	Rank int

	// Cost, Reliability and ResponseTime are what the provider says of itself; nil
	// is unknown. Cost is 0 to MaxCost, Reliability 0 to 1, ResponseTime 0 to
	// MaxResponseTime.
	Cost, Reliability *float64
	ResponseTime      *time.Duration

	// Idempotent says that a call that has started may be tried once more, at
	// another provider.
	Idempotent bool

	// Input and Output are JSON Schemas of requests and replies, which see a value
	// as encoding/json would write it. If empty, anything goes. A []byte that is
	// JSON can be read as that and as bytes, so it has to satisfy the schema both
	// ways; send JSON as a json.RawMessage.
	Input, Output json.RawMessage

	// Examples are requests. Where there is an Input they satisfy it.
	Examples []json.RawMessage

	// Metadata is for whoever understands it.
	Metadata map[string]string

	// Allowed and Denied are the access list: ids of plugins that may find and call
	// the capability. Whoever is denied may not, whatever Allowed says; if Allowed
	// is empty, everybody else may whom the policy lets. No other plugin sees them.
	Allowed, Denied []string
}

// Clone returns a deep copy.
func (c Capability) Clone() Capability {
	d := c
	d.Cost, d.Reliability, d.ResponseTime = clonePointer(c.Cost), clonePointer(c.Reliability), clonePointer(c.ResponseTime)
	d.Categories, d.Input, d.Output = slices.Clone(c.Categories), slices.Clone(c.Input), slices.Clone(c.Output)
	d.Examples = slices.Clone(c.Examples)
	for i, example := range d.Examples {
		d.Examples[i] = slices.Clone(example)
	}
	d.Metadata = maps.Clone(c.Metadata)
	d.Allowed, d.Denied = slices.Clone(c.Allowed), slices.Clone(c.Denied)
	return d
}

func clonePointer[T any](p *T) *T {
	if p == nil {
		return nil
	}
	return new(*p)
}

// Check reports all that is wrong with what a plugin declares, as Provide does. It
// matches [plugbus.ErrInvalid].
func (c Capability) Check() error {
	if err := topic.CheckName(c.Name); err != nil {
		return err
	}
	_, err := newRecord(c.Clone(), nil)
	return err
}

// A record is a capability that was checked. It does not change.
type record struct {
	Capability

	client        *Client
	revision      uint64
	bytes         int             // of its texts
	version       *semver.Version // nil if it is unknown
	input, output *schema.Schema  // nil if anything goes
	allowed       map[string]struct{}
	denied        map[string]struct{}
	window        *window // of calls
}

// newRecord checks a capability, which becomes the record's own, and reports all
// that is wrong with it. The door has checked the name.
func newRecord(c Capability, version *semver.Version) (*record, error) {
	m := mistakes{what: fmt.Sprintf("capability %q", c.Name)}
	slices.Sort(c.Categories)
	c.Categories = slices.Compact(c.Categories)
	r := &record{Capability: c, version: version, allowed: setOf(c.Allowed), denied: setOf(c.Denied)}
	r.bytes = r.checkTexts(&m)
	r.checkNames(&m)
	r.checkFigures(&m)
	r.checkSchemas(&m)
	if c.Version != "" {
		var err error
		if r.version, err = semver.StrictNewVersion(c.Version); err != nil {
			m.add("Version", err, "it is %q; expected a version of SemVer 2.0, such as 1.2.3", plugbus.CutText(c.Version))
		}
	} else if version != nil {
		r.Version = version.String()
	}
	if err := m.err(); err != nil {
		return nil, err
	}
	return r, nil
}

// checkTexts returns how many bytes the texts have.
func (r *record) checkTexts(m *mistakes) (bytes int) {
	text := func(field, s string, most int) {
		bytes += len(s)
		switch {
		case len(s) > most:
			m.add(field, nil, "it has %d bytes; expected at most %d", len(s), most)
		case !utf8.ValidString(s):
			m.add(field, nil, "it is not valid UTF-8")
		}
	}
	text("Name", r.Name, topic.MaxBytes)
	text("Description", r.Description, plugbus.MaxTextBytes)
	text("Documentation", r.Documentation, MaxDocumentation)
	text("Input", string(r.Input), MaxSchema)
	text("Output", string(r.Output), MaxSchema)
	m.atMost("Examples", len(r.Examples), MaxExamples, "examples")
	m.atMost("Metadata", len(r.Metadata), MaxMetadata, "entries")
	var examples, metadata strings.Builder
	for _, example := range r.Examples {
		examples.Write(example)
	}
	for _, key := range slices.Sorted(maps.Keys(r.Metadata)) {
		metadata.WriteString(key + r.Metadata[key])
	}
	text("Examples", examples.String(), MaxExampleBytes)
	text("Metadata", metadata.String(), MaxMetadataBytes)
	for _, list := range [][]string{r.Categories, r.Allowed, r.Denied} {
		for _, s := range list {
			bytes += len(s)
		}
	}
	return bytes
}

func (r *record) checkNames(m *mistakes) {
	m.atMost("Categories", len(r.Categories), MaxCategories, "categories")
	for _, category := range r.Categories {
		if err := topic.CheckName(category); err != nil {
			m.add("Categories", err, "expected names")
		}
	}
	for _, list := range []struct {
		field string
		ids   []string
	}{{"Allowed", r.Allowed}, {"Denied", r.Denied}} {
		m.atMost(list.field, len(list.ids), MaxAccess, "ids")
		for _, id := range list.ids {
			if err := topic.CheckID(id); err != nil {
				m.add(list.field, err, "expected ids of plugins")
				break // Thousands would be no help.
			}
		}
	}
}

func (r *record) checkFigures(m *mistakes) {
	within(m, "Rank", r.Rank, -MaxRank, MaxRank)
	if r.Cost != nil {
		within(m, "Cost", *r.Cost, 0, MaxCost)
	}
	if r.Reliability != nil {
		within(m, "Reliability", *r.Reliability, 0, 1)
	}
	if r.ResponseTime != nil && (*r.ResponseTime < 0 || *r.ResponseTime > MaxResponseTime) {
		m.add("ResponseTime", nil, "it is %v; expected 0 to %v", *r.ResponseTime, MaxResponseTime)
	}
}

func (r *record) checkSchemas(m *mistakes) {
	compile := func(field string, text json.RawMessage) *schema.Schema {
		if len(text) == 0 {
			return nil
		}
		s, err := schema.Compile(text)
		if err != nil {
			m.add(field, err, "expected a JSON Schema")
		}
		return s
	}
	r.input, r.output = compile("Input", r.Input), compile("Output", r.Output)
	for i, example := range r.Examples[:min(len(r.Examples), MaxExamples)] {
		var err error
		if r.input != nil {
			err = r.input.Validate(example)
		} else {
			err = strictjson.Decode(example, new(any))
		}
		if err != nil {
			m.add("Examples", err, "example %d; expected JSON that satisfies Input", i)
		}
	}
}

func setOf(list []string) map[string]struct{} {
	set := make(map[string]struct{}, len(list))
	for _, s := range list {
		set[s] = struct{}{}
	}
	return set
}

// admits reports whether the access list admits a plugin.
func (r *record) admits(id string) bool {
	if _, denied := r.denied[id]; denied {
		return false
	}
	_, allowed := r.allowed[id]
	return allowed || len(r.allowed) == 0
}
