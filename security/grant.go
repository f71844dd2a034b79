package security

import (
	"fmt"
	"slices"
	"time"

	"github.com/plugbus/plugbus"
)

// HostID is the id of the host's own session. It is never in a policy, and its
// trust is verified.
const HostID = "host"

// A Grant is what a policy says of one plugin besides its rights, which
// [Subject.Permit] answers for. It is a copy: changing it changes nothing.
type Grant struct {
	ID          string
	Description string
	Trust       plugbus.Trust
	Priority    plugbus.Priority // the highest that the plugin may ask for
	Limits      Limits

	Process    bool // the plugin lives in a child process
	Network    bool // it may use the network; only ever set with Process
	FileSystem bool // it may use files; only ever set with Process

	inline []string
}

// Inline reports whether messages between two plugins may be handled on the
// sender's stack: each names the other.
func (g Grant) Inline(other Grant) bool {
	return slices.Contains(g.inline, other.ID) && slices.Contains(other.inline, g.ID)
}

// Limits bound what one plugin may hand in and open.
type Limits struct {
	MessageBytes  int64 // of one payload of any kind; default 1 MiB
	PayloadNodes  int   // values in one payload; default 100,000
	PayloadDepth  int   // levels of nesting in one payload; default 64
	Subscriptions int   // open at one time, by the policy under which the plugin joined; default 1,000
	Wildcards     int   // in one pattern of a subscription; default 8
	Stores        int   // that the plugin owns; default 16
	StoreBytes    int64 // of all entries in the stores that the plugin owns; default 64 MiB
	Watches       int   // of stores, open at one time; default 100
}

// A Rate admits, in any span of time w, at most Limit × w / Per + Burst. What
// is out of its range counts as the end of the range.
type Rate struct {
	Limit int64         `json:"limit"` // up to 10^12; 0 admits nothing, whatever Burst says
	Per   time.Duration `json:"per"`   // from 1 ms to 24 h; if zero, a minute
	Burst int64         `json:"burst"` // up to 10^12; if zero, it is Limit
}

// String returns the rate in words, such as "100 per 1m0s, burst 20".
func (r Rate) String() string {
	return fmt.Sprintf("%d per %v, burst %d", r.Limit, r.Per, r.Burst)
}

// An Operation is what one rate counts.
type Operation uint8

// The operations.
const (
	Messages   Operation = iota // send and publish
	Events                      // emit, broadcast, subscribe, and each page of a replay
	DataAccess                  // read, write and create of stores
	Bytes                       // of the payloads of all of these

	operations = 4
)

var operationNames = [...]string{"messages", "events", "data_access", "bytes"}

// String returns the operation as policies spell it, such as "data_access".
func (o Operation) String() string {
	if int(o) < len(operationNames) {
		return operationNames[o]
	}
	return fmt.Sprintf("Operation(%d)", o)
}

// MarshalText returns what String returns.
func (o Operation) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

// A use says what a verb does to a policy.
type use struct {
	op      Operation // what it is an act of, if metered
	metered bool
	carries bool // it hands a payload in
	owned   bool // the hub's own names are closed to it
}

var uses = [...]use{
	plugbus.VerbSend:      {op: Messages, metered: true, carries: true},
	plugbus.VerbReceive:   {carries: true}, // the reply
	plugbus.VerbEmit:      {op: Events, metered: true, carries: true, owned: true},
	plugbus.VerbBroadcast: {op: Events, metered: true, carries: true, owned: true},
	plugbus.VerbSubscribe: {op: Events, metered: true},
	plugbus.VerbPublish:   {op: Messages, metered: true, carries: true, owned: true},
	plugbus.VerbConsume:   {},
	plugbus.VerbRead:      {op: DataAccess, metered: true},
	plugbus.VerbWrite:     {op: DataAccess, metered: true, carries: true},
	plugbus.VerbCreate:    {op: DataAccess, metered: true, owned: true},
	plugbus.VerbProvide:   {owned: true},
	plugbus.VerbDiscover:  {},
}

// known reports whether v is a verb.
func known(v plugbus.Verb) bool { return v != 0 && int(v) < len(uses) }

// useOf returns the use of a verb, the zero one if it is unknown.
func useOf(v plugbus.Verb) use {
	if !known(v) {
		return use{}
	}
	return uses[v]
}

// ofStores reports whether the objects of a verb are stores.
func ofStores(v plugbus.Verb) bool { return useOf(v).op == DataAccess }

// ofPlugins reports whether the objects of a verb are plugins.
func ofPlugins(v plugbus.Verb) bool { return v == plugbus.VerbSend || v == plugbus.VerbReceive }
