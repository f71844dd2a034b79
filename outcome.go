package plugbus

import (
	"errors"
	"fmt"
	"strings"
)

// An Outcome is how the delivery of one event or message to one recipient
// ended. There is exactly one for each delivery that was offered.
type Outcome uint8

// The outcomes. The first two are the door's; the others end a delivery that
// the door accepted.
const (
	Refused       Outcome = iota + 1 // the door said no
	Full                             // no room
	Handled                          // the handler returned nil, or its filter said no
	Failed                           // the handler or its filter returned an error, panicked, or ended its goroutine
	Expired                          // the maximum age passed before the delivery started
	Dropped                          // the queue's overflow rule dropped it
	Cancelled                        // the subscription or the session ended before the delivery started
	Abandoned                        // the time of the handler ended before the handler did
	Undeliverable                    // the recipient may not have it, by the policy of the moment of delivery
)

var outcomeNames = [...]string{
	Refused: "refused", Full: "full", Handled: "handled", Failed: "failed", Expired: "expired",
	Dropped: "dropped", Cancelled: "cancelled", Abandoned: "abandoned", Undeliverable: "undeliverable",
}

// String returns the outcome in lower case, such as "handled".
func (o Outcome) String() string { return enumString("Outcome", outcomeNames[:], int(o)) }

// MarshalText returns what String returns, or an error for an unknown outcome.
func (o Outcome) MarshalText() ([]byte, error) { return enumText("outcome", outcomeNames[:], int(o)) }

// UnmarshalText accepts what MarshalText returns, and nothing else.
func (o *Outcome) UnmarshalText(text []byte) error {
	return enumParse("outcome", outcomeNames[:], text, (*uint8)(o))
}

// A Ledger counts deliveries by outcome. An act that is refused before its
// recipients are looked up counts as one delivery.
//
// In every snapshot that the bus gives out
//
//	Offered  = Refused + Full + Accepted
//	Accepted = Handled + Failed + Expired + Dropped + Cancelled + Abandoned + Undeliverable + Waiting + Running
//
// The door counts what it accepts and workers count how deliveries end;
// neither figure is computed from the other.
type Ledger struct { //nolint:recvcheck // A ledger is a value; only Add and Count change it.
	Offered  uint64 `json:"offered"`
	Refused  uint64 `json:"refused"`
	Full     uint64 `json:"full"`
	Accepted uint64 `json:"accepted"`

	Handled       uint64 `json:"handled"`
	Failed        uint64 `json:"failed"`
	Expired       uint64 `json:"expired"`
	Dropped       uint64 `json:"dropped"`
	Cancelled     uint64 `json:"cancelled"`
	Abandoned     uint64 `json:"abandoned"`
	Undeliverable uint64 `json:"undeliverable"`

	Waiting uint64 `json:"waiting"` // accepted, and not yet started
	Running uint64 `json:"running"` // started, and not yet ended
}

// Add adds the figures of other, the ledger of another part.
func (l *Ledger) Add(other Ledger) {
	l.Offered += other.Offered
	l.Refused += other.Refused
	l.Full += other.Full
	l.Accepted += other.Accepted
	l.Handled += other.Handled
	l.Failed += other.Failed
	l.Expired += other.Expired
	l.Dropped += other.Dropped
	l.Cancelled += other.Cancelled
	l.Abandoned += other.Abandoned
	l.Undeliverable += other.Undeliverable
	l.Waiting += other.Waiting
	l.Running += other.Running
}

// Count adds n deliveries that ended in o. The outcomes of the door, Refused
// and Full, are counted as offered too.
func (l *Ledger) Count(o Outcome, n uint64) {
	switch o {
	case Refused:
		l.Offered += n
		l.Refused += n
	case Full:
		l.Offered += n
		l.Full += n
	case Handled:
		l.Handled += n
	case Failed:
		l.Failed += n
	case Expired:
		l.Expired += n
	case Dropped:
		l.Dropped += n
	case Cancelled:
		l.Cancelled += n
	case Abandoned:
		l.Abandoned += n
	case Undeliverable:
		l.Undeliverable += n
	}
}

// Ended returns how many accepted deliveries have an outcome.
func (l Ledger) Ended() uint64 {
	return l.Handled + l.Failed + l.Expired + l.Dropped + l.Cancelled + l.Abandoned + l.Undeliverable
}

// Check returns nil if the ledger balances, and otherwise an error with the
// figures that do not add up.
func (l Ledger) Check() error {
	var errs []error
	if sum := l.Refused + l.Full + l.Accepted; l.Offered != sum {
		errs = append(errs, fmt.Errorf("plugbus: the ledger does not balance: offered %d, but refused %d + full %d + accepted %d = %d",
			l.Offered, l.Refused, l.Full, l.Accepted, sum))
	}
	if sum := l.Ended() + l.Waiting + l.Running; l.Accepted != sum {
		errs = append(errs, fmt.Errorf("plugbus: the ledger does not balance: accepted %d, but ended %d + waiting %d + running %d = %d",
			l.Accepted, l.Ended(), l.Waiting, l.Running, sum))
	}
	return errors.Join(errs...)
}

// String lists the figures that are not zero, in the order of the fields.
func (l Ledger) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "offered %d = refused %d + full %d + accepted %d; accepted = handled %d",
		l.Offered, l.Refused, l.Full, l.Accepted, l.Handled)
	for _, f := range []struct {
		name string
		n    uint64
	}{
		{"failed", l.Failed},
		{"expired", l.Expired},
		{"dropped", l.Dropped},
		{"cancelled", l.Cancelled},
		{"abandoned", l.Abandoned},
		{"undeliverable", l.Undeliverable},
		{"waiting", l.Waiting},
		{"running", l.Running},
	} {
		if f.n != 0 {
			fmt.Fprintf(&b, " + %s %d", f.name, f.n)
		}
	}
	return b.String()
}
