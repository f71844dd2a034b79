package plugbus

import "fmt"

// A Verb is what a plugin wants to do. Policies grant verbs; refusals name
// them.
type Verb uint8

// The verbs, each with the kind of object that it applies to.
const (
	VerbSend      Verb = iota + 1 // to a plugin id
	VerbReceive                   // from a plugin id
	VerbEmit                      // an event name
	VerbBroadcast                 // an event name
	VerbSubscribe                 // an event name or pattern
	VerbPublish                   // a topic
	VerbConsume                   // a topic or pattern
	VerbRead                      // a store; watching is reading
	VerbWrite                     // a store
	VerbCreate                    // a store
	VerbProvide                   // a capability
	VerbDiscover                  // a capability
)

var verbNames = [...]string{
	VerbSend: "send", VerbReceive: "receive",
	VerbEmit: "emit", VerbBroadcast: "broadcast", VerbSubscribe: "subscribe",
	VerbPublish: "publish", VerbConsume: "consume",
	VerbRead: "read", VerbWrite: "write", VerbCreate: "create",
	VerbProvide: "provide", VerbDiscover: "discover",
}

// Verbs returns every verb, in the order of their constants.
func Verbs() []Verb {
	all := make([]Verb, 0, len(verbNames)-1)
	for v := VerbSend; int(v) < len(verbNames); v++ {
		all = append(all, v)
	}
	return all
}

// String returns the verb as policies spell it, such as "emit".
func (v Verb) String() string { return enumString("Verb", verbNames[:], int(v)) }

// Phrase returns the verb as it stands before its object in a sentence, such as
// "subscribe to".
func (v Verb) Phrase() string {
	switch v {
	case VerbSend, VerbSubscribe, VerbPublish, VerbWrite:
		return v.String() + " to"
	case VerbReceive:
		return v.String() + " from"
	default:
		return v.String()
	}
}

// MarshalText returns what String returns, or an error for an unknown verb.
func (v Verb) MarshalText() ([]byte, error) { return enumText("verb", verbNames[:], int(v)) }

// UnmarshalText accepts what MarshalText returns, and nothing else.
func (v *Verb) UnmarshalText(text []byte) error {
	return enumParse("verb", verbNames[:], text, (*uint8)(v))
}

// ParseVerb returns the verb that a policy spells so.
func ParseVerb(s string) (Verb, error) {
	var v Verb
	err := v.UnmarshalText([]byte(s))
	return v, err
}

// Trust is how far the host trusts a plugin. Levels are ordered, so they may
// be compared with < and >.
type Trust uint8

// The levels, lowest first. The zero value is the lowest.
const (
	Untrusted Trust = iota
	Basic
	Trusted
	Verified
)

var trustNames = [...]string{
	Untrusted: "untrusted", Basic: "basic", Trusted: "trusted", Verified: "verified",
}

// String returns the level as policies spell it, such as "untrusted".
func (t Trust) String() string { return enumString("Trust", trustNames[:], int(t)) }

// MarshalText returns what String returns, or an error for an unknown level.
func (t Trust) MarshalText() ([]byte, error) {
	return enumText("trust level", trustNames[:], int(t))
}

// UnmarshalText accepts what MarshalText returns, and nothing else.
func (t *Trust) UnmarshalText(text []byte) error {
	return enumParse("trust level", trustNames[:], text, (*uint8)(t))
}

// ParseTrust returns the level that a policy spells so.
func ParseTrust(s string) (Trust, error) {
	var t Trust
	err := t.UnmarshalText([]byte(s))
	return t, err
}

// enumString returns the name of value i, or Type(i) where it has none, as
// the stringer command does.
func enumString(typ string, names []string, i int) string {
	if i < len(names) && names[i] != "" {
		return names[i]
	}
	return fmt.Sprintf("%s(%d)", typ, i)
}

func enumText(what string, names []string, i int) ([]byte, error) {
	if i < len(names) && names[i] != "" {
		return []byte(names[i]), nil
	}
	return nil, fmt.Errorf("plugbus: no %s has the number %d", what, i)
}

func enumParse(what string, names []string, text []byte, into *uint8) error {
	for i, name := range names {
		if name != "" && name == string(text) {
			*into = uint8(i)
			return nil
		}
	}
	known := names
	if known[0] == "" {
		known = known[1:]
	}
	return fmt.Errorf("plugbus: unknown %s %q; expected one of %q", what, text, known)
}
