package router

import (
	"maps"
	"time"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/internal/ids"
	"github.com/plugbus/plugbus/internal/payload"
)

// A Kind is how a message was sent.
type Kind uint8

// The kinds.
const (
	KindSend    Kind = iota + 1 // one reply
	KindStream                  // many replies
	KindPost                    // none
	KindPublish                 // none; to every handler of a topic
)

var kindNames = [...]string{KindSend: "send", KindStream: "stream", KindPost: "post", KindPublish: "publish"}

// String returns the kind in lower case, such as "send".
func (k Kind) String() string {
	if int(k) < len(kindNames) && kindNames[k] != "" {
		return kindNames[k]
	}
	return "unknown"
}

// awaited reports whether the sender waits for the handler.
func (k Kind) awaited() bool { return k == KindSend || k == KindStream }

// A Message is what a handler gets. It is a value, and immutable: the router
// keeps the only copy of its payload, and every [Message.Data] is a copy of that
// copy. The zero Message has no type.
type Message struct {
	frozen   any
	seq      uint64
	nanos    int64 // since the epoch
	address  *address
	meta     *meta
	size     int32
	number   int32
	priority plugbus.Priority
}

// An address is what the messages of one type from one plugin to another have in
// common.
type address struct {
	from, to string
	name     string // the type or the topic
	kind     Kind
	salt     uint32 // of the router's ids
}

// A meta is what travels with a message besides its payload. Most messages of a
// plugin share one, which holds only the chain.
type meta struct {
	chain       plugbus.Chain // the sender is its last plugin
	headers     map[string]string
	correlation string
	clientID    string
	pattern     string // of the handler, for publications
}

// From returns the id of the plugin that sent the message. The router stamps it;
// nothing in a message can change it.
func (m Message) From() string {
	if m.address == nil {
		return ""
	}
	return m.address.from
}

// To returns the id of the plugin that the message is for.
func (m Message) To() string {
	if m.address == nil {
		return ""
	}
	return m.address.to
}

// Type returns the type of the message, or the topic of a publication.
func (m Message) Type() string {
	if m.address == nil {
		return ""
	}
	return m.address.name
}

// Kind returns how the message was sent.
func (m Message) Kind() Kind {
	if m.address == nil {
		return 0
	}
	return m.address.kind
}

// Pattern returns, for a publication, the pattern of the handler that this
// delivery is for.
func (m Message) Pattern() string {
	if m.meta == nil {
		return ""
	}
	return m.meta.pattern
}

// Delivery numbers the deliveries of one publication to one plugin, which share
// its ID, from 1, in the order in which the plugin set the handlers. It is 1 for
// other messages.
func (m Message) Delivery() int { return int(m.number) }

// Priority returns the priority with which the message was sent.
func (m Message) Priority() plugbus.Priority { return m.priority }

// Time returns when the message was sent.
func (m Message) Time() time.Time { return time.Unix(0, m.nanos) }

// ID returns the id of the message, which is unique, and sorts by time.
func (m Message) ID() plugbus.ID {
	if m.address == nil {
		return plugbus.ID{}
	}
	return ids.At(m.nanos, m.seq, m.address.salt)
}

// ClientID returns what the sender gave with [ClientID], or "". It is the
// sender's word: not unique, and not checked.
func (m Message) ClientID() string {
	if m.meta == nil {
		return ""
	}
	return m.meta.clientID
}

// Data returns the payload: the value itself if its type holds no references,
// and otherwise a copy that belongs to the caller. Each call makes a new copy.
// A [plugbus.Shared] payload is returned as it is.
func (m Message) Data() any { return payload.Thaw(m.frozen) }

// Size returns the size of the payload and the headers in bytes, as the door
// measured it.
func (m Message) Size() int { return int(m.size) }

// Chain returns the plugins that led to the message. The last one is its sender.
func (m Message) Chain() plugbus.Chain {
	if m.meta == nil {
		return plugbus.Chain{}
	}
	return m.meta.chain
}

// Header returns one header, or "".
func (m Message) Header(key string) string {
	if m.meta == nil {
		return ""
	}
	return m.meta.headers[key]
}

// Headers returns a copy of the headers.
func (m Message) Headers() map[string]string {
	if m.meta == nil {
		return nil
	}
	return maps.Clone(m.meta.headers)
}

// CorrelationID returns what the sender gave with [CorrelationID], or "".
func (m Message) CorrelationID() string {
	if m.meta == nil {
		return ""
	}
	return m.meta.correlation
}

// A Response is the reply to a request, or one chunk of a stream. Like a
// message, it is an immutable value. The zero Response is none.
type Response struct {
	frozen any
	from   string
	size   int
	index  int
	id     plugbus.ID
}

// Data returns the payload, as [Message.Data] does. A reply of nil is a reply:
// that there is none is an error.
func (r Response) Data() any { return payload.Thaw(r.frozen) }

// From returns the id of the plugin that replied.
func (r Response) From() string { return r.from }

// Size returns the size of the payload in bytes, as the door measured it.
func (r Response) Size() int { return r.size }

// Index returns the place of a chunk in its stream, from 0.
func (r Response) Index() int { return r.index }

// MessageID returns the id of the message that this is the reply to.
func (r Response) MessageID() plugbus.ID { return r.id }

// A Receipt says what became of a publication at the door. It counts and names
// only recipients that the sender may know of.
type Receipt struct {
	ID       plugbus.ID
	Matched  int      // handlers that the publication is for
	Accepted int      // of these, those whose mailbox took it
	Refused  []string // recipients that may not have it, by id, once for each handler
	Full     []string // recipients whose mailbox had no room, likewise
}
