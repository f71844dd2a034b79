package plugbus

import "time"

// An Observation is one thing that happened at the door, or after it: what metrics
// and traces are made of. It names plugins and what they called things, and carries
// no payload. It is a value, and holds on to nothing but strings.
//
// An act that was let in has one observation of [StageAct], and then one of
// [StageDelivery] for each of its recipients, of which there may be none; one that was
// refused has that of the act alone. A write to a store has one of [StageResult] beside.
// So who counts acts takes those of StageAct, and who counts how they ended adds up Count
// of StageDelivery; both together count twice. [Observation.Result] is the word for a label.
type Observation struct {
	Time  time.Time // when it was decided: of an act at the door, otherwise when it ended
	Stage Stage
	Kind  Traffic
	Verb  Verb // of the act; of a delivery, what its recipient does

	From    string // who acted; "" if nobody did, such as for an entry of a store that expired
	To      string // the recipient of a delivery, or the one plugin that an act is for
	Name    string // of the event, message type, topic or store; of a subscription its pattern
	Pattern string // by which a subscription or the handler of a topic got it; "" for others

	// Outcome of a delivery is how it ended. Of an act it is Refused, Full if there was
	// no room at the one recipient, or for an emitter that waited for room, and 0 if it
	// was let in. Of a result it is Handled, Failed, or Refused.
	Outcome Outcome

	// Reason says why, for Refused and Undeliverable.
	Reason Reason

	// Count is how many deliveries this stands for. It is 1, but for what an overflow
	// rule dropped of a log that subscriptions share: that is told together, without
	// Name, From, Seq and ID.
	Count int

	Bytes int // of the payload and headers, as the door measured them; 0 for what it refused
	Depth int // plugins in the chain that led to it, the acting one included

	// Seq numbers what was let in: by it an event has its place, a message its number in
	// the router, and a change of a store is its revision. It is the same in the act and
	// its deliveries, and so is ID, which the changes of stores do not have.
	Seq uint64
	ID  ID

	// Correlation is what the sender gave as correlation id, or "".
	Correlation string

	// Waited is how long a delivery waited for its handler, from the act on, or until it
	// ended without one. It is 0 for what comes of a history. Ran is how long the handler
	// ran, or the write took.
	Waited, Ran time.Duration
}

// A Stage says what an [Observation] is about.
type Stage uint8

// The stages.
const (
	StageAct      Stage = iota + 1 // an act was let in at the door, or was not
	StageDelivery                  // what was let in ended at one recipient, or could not be put before it
	StageResult                    // a write to a store was done, or not; or another act on one was refused after all
)

var stageNames = [...]string{StageAct: "act", StageDelivery: "delivery", StageResult: "result"}

// String returns the stage in lower case.
func (s Stage) String() string { return enumString("Stage", stageNames[:], int(s)) }

// MarshalText returns what String returns, or an error for an unknown stage.
func (s Stage) MarshalText() ([]byte, error) { return enumText("stage", stageNames[:], int(s)) }

// Traffic is what an [Observation] is of.
type Traffic uint8

// The kinds of traffic.
const (
	TrafficEvent        Traffic = iota + 1 // what was emitted or broadcast
	TrafficSubscription                    // acts that ask for events: to subscribe, and each page of a replay
	TrafficSend                            // messages with one reply
	TrafficStream                          // messages with many
	TrafficPost                            // messages with none
	TrafficPublication                     // what was published to a topic
	TrafficStore                           // reads, writes and watches
)

var trafficNames = [...]string{
	TrafficEvent: "event", TrafficSubscription: "subscription", TrafficSend: "send", TrafficStream: "stream",
	TrafficPost: "post", TrafficPublication: "publication", TrafficStore: "store",
}

// String returns the traffic in lower case.
func (t Traffic) String() string { return enumString("Traffic", trafficNames[:], int(t)) }

// MarshalText returns what String returns, or an error for unknown traffic.
func (t Traffic) MarshalText() ([]byte, error) { return enumText("traffic", trafficNames[:], int(t)) }

// Result returns the outcome as a word, which is "accepted" for an act that was let
// in.
func (o *Observation) Result() string {
	if o.Stage == StageAct && o.Outcome == 0 {
		return "accepted"
	}
	return o.Outcome.String()
}

// Observe counts an observation as the bus counted what it is of, so that a ledger
// that was given all observations of a bus at rest is the ledger of that bus. An act
// that was let in counts by its deliveries, and one that was refused as one. What is
// in no ledger, such as reads and writes of stores, is not counted.
func (l *Ledger) Observe(o Observation) {
	switch {
	case o.Kind == TrafficStore || o.Kind == TrafficSubscription:
	case o.Stage == StageDelivery:
		n := uint64(max(0, o.Count))
		l.Count(o.Outcome, n)
		if o.Outcome != Refused && o.Outcome != Full {
			l.Offered += n
			l.Accepted += n
		}
	case o.Stage == StageAct && o.Outcome == Refused:
		l.Count(Refused, 1)
	}
}
