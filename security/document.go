package security

import (
	"encoding/json"
	"errors"
	"reflect"

	"github.com/plugbus/plugbus"
)

// A Document is a policy file as Go values, for a host that builds its policy
// in code. Its fields are the fields of the file; what is absent is zero.
// [Document.Policy] makes it a policy.
type Document struct {
	// Version is the version of the format, and must be 1.
	Version int64 `json:"version"`

	// Description is for people.
	Description string `json:"description,omitzero"`

	// Levels holds what plugins of a trust level get where they say nothing
	// themselves.
	Levels map[plugbus.Trust]LevelRules `json:"levels,omitzero"`

	// Plugins holds the grant of each plugin, by its id. Other ids cannot join.
	Plugins map[string]PluginRules `json:"plugins,omitzero"`
}

// LevelRules are the rates and limits of all plugins of one trust level.
type LevelRules struct {
	Rates  RateRules  `json:"rates,omitzero"`
	Limits LimitRules `json:"limits,omitzero"`
}

// PluginRules are what one plugin may do. The zero value allows nothing.
type PluginRules struct {
	Description string        `json:"description,omitzero"`
	Trust       plugbus.Trust `json:"trust,omitzero"`

	// CanSendMessages and CanReceiveMessages stand for Send and Receive with
	// everyone that trust allows. A list beside true narrows it; a list beside
	// false is a mistake.
	CanSendMessages    *bool `json:"canSendMessages,omitzero"`
	CanReceiveMessages *bool `json:"canReceiveMessages,omitzero"`

	Send    *Rule `json:"send,omitzero"`    // plugin ids
	Receive *Rule `json:"receive,omitzero"` // plugin ids

	Emit      *Rule `json:"emit,omitzero"`      // event names
	Broadcast *Rule `json:"broadcast,omitzero"` // event names
	Subscribe *Rule `json:"subscribe,omitzero"` // event names
	Publish   *Rule `json:"publish,omitzero"`   // topics
	Consume   *Rule `json:"consume,omitzero"`   // topics
	Provide   *Rule `json:"provide,omitzero"`   // capabilities
	Discover  *Rule `json:"discover,omitzero"`  // capabilities

	// DataAccess holds the rights to stores, by patterns of their names. Every
	// pattern that matches a store speaks: an act needs one that says true, and
	// none that says false.
	DataAccess map[string]AccessRules `json:"dataAccess,omitzero"`

	Rates   RateRules    `json:"rates,omitzero"`
	Limits  LimitRules   `json:"limits,omitzero"`
	Content ContentRules `json:"content,omitzero"`

	// Shared lists patterns of the names (for messages, ids) for which the
	// plugin may pass a plugbus.Shared.
	Shared []string `json:"shared,omitzero"`

	// Priority is the highest that the plugin may ask for.
	Priority plugbus.Priority `json:"priority,omitzero"`

	// Inline lists the ids of plugins whose messages may be handled on the
	// sender's stack. Both sides must name each other.
	Inline []string `json:"inline,omitzero"`

	// Bridge is "process" for a plugin that lives in a child process, which is
	// the only place where NetworkAccess and FileSystemAccess can be enforced.
	Bridge           string `json:"bridge,omitzero"`
	NetworkAccess    *bool  `json:"networkAccess,omitzero"`
	FileSystemAccess *bool  `json:"fileSystemAccess,omitzero"`
}

// A Rule grants one verb. In a file it is true, false, or lists of patterns.
type Rule struct {
	// All allows everything but the hub's own names. It stands alone.
	All bool

	// Allow lists the patterns that are allowed.
	Allow []string

	// Deny lists what is not allowed, whatever Allow says.
	Deny []string
}

// ruleLists is the object form of a Rule.
type ruleLists struct {
	Allow []string `json:"allow,omitzero"`
	Deny  []string `json:"deny,omitzero"`
}

// MarshalJSON returns true, false, or an object with the lists.
func (r Rule) MarshalJSON() ([]byte, error) {
	lists := ruleLists{r.Allow, r.Deny}
	switch {
	case r.Allow == nil && r.Deny == nil:
		return json.Marshal(r.All)
	case r.All:
		return nil, errors.New("security: a rule has All beside lists; expected one of the two")
	}
	return json.Marshal(lists)
}

// AccessRules are the rights to the stores that one pattern matches.
type AccessRules struct {
	Read   *bool `json:"read,omitzero"` // watching is reading
	Write  *bool `json:"write,omitzero"`
	Create *bool `json:"create,omitzero"`

	// RequiresTrust restricts these stores to trusted plugins, also where
	// another pattern gives the right.
	RequiresTrust bool `json:"requiresTrust,omitzero"`
}

// RateRules limit how often a plugin may do what. What is absent has the
// default rate of its operation.
type RateRules struct {
	Messages   *RateRule `json:"messages,omitzero"`    // send and publish; default 100 a minute
	Events     *RateRule `json:"events,omitzero"`      // emit, broadcast, subscribe and replay; default 6,000 a minute with a burst of 1,000
	DataAccess *RateRule `json:"data_access,omitzero"` // store calls; default 6,000 a minute with a burst of 1,000
	Bytes      *RateRule `json:"bytes,omitzero"`       // of all payloads that the plugin hands in; default no limit
}

// A RateRule is one rate. In any span of time w, at most Limit × w / Per +
// Burst are admitted.
type RateRule struct {
	// Limit is required; 0 admits nothing, and at most 10^12 is allowed.
	Limit *int64 `json:"limit,omitzero"`

	// Per is a Go duration from "1ms" to "24h"; default "1m".
	Per string `json:"per,omitzero"`

	// Burst is from 1 to 10^12; the default is Limit.
	Burst *int64 `json:"burst,omitzero"`
}

// LimitRules bound what a plugin may hand in and open. What is absent has the
// default that [Limits] names.
type LimitRules struct {
	MessageBytes  *int64 `json:"messageBytes,omitzero"`  // 1 to 2^30
	PayloadNodes  *int64 `json:"payloadNodes,omitzero"`  // 1 to 10^7
	PayloadDepth  *int64 `json:"payloadDepth,omitzero"`  // 1 to 1,000
	Subscriptions *int64 `json:"subscriptions,omitzero"` // 0 to 10^6
	Wildcards     *int64 `json:"wildcards,omitzero"`     // 0 to 32
	Stores        *int64 `json:"stores,omitzero"`        // 0 to 100,000
	StoreBytes    *int64 `json:"storeBytes,omitzero"`    // 0 to 2^40
	Watches       *int64 `json:"watches,omitzero"`       // 0 to 100,000
}

// ContentRules switch the content checks, which are on by default.
type ContentRules struct {
	Script    *bool `json:"script,omitzero"`    // see plugbus.CheckScript
	Scheme    *bool `json:"scheme,omitzero"`    // see plugbus.CheckScheme
	Attribute *bool `json:"attribute,omitzero"` // see plugbus.CheckAttribute

	// Except lists patterns of the names (for messages, ids) without checks.
	Except []string `json:"except,omitzero"`
}

// Policy checks the document and makes it a policy, which shares nothing with
// it. The error joins a [*PolicyError] for each mistake.
func (d Document) Policy() (*Policy, error) {
	data, err := json.Marshal(d)
	if err != nil {
		return nil, &PolicyError{Problem: err.Error()}
	}
	p, err := parse(data, &source{})
	if err != nil {
		return nil, err
	}
	// encoding/json replaces what is not UTF-8, and a policy must not say
	// something else than its author.
	if !reflect.DeepEqual(*p.doc, d) {
		return nil, &PolicyError{Problem: "the document holds text that is not valid UTF-8"}
	}
	return p, nil
}
