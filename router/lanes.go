package router

import "github.com/plugbus/plugbus"

// The priorities as numbers of lanes, the most urgent first.
const laneCount = 3

func laneOf(p plugbus.Priority) int { return int(plugbus.PriorityHigh - p) }

// laneCredits is how many messages of each lane one round takes.
var laneCredits = [laneCount]int{8, 4, 1}

// lanes are three queues, of which the more urgent ones are served more often.
// Its zero value is empty and ready to use.
type lanes struct {
	first, last [laneCount]*delivery
	used        [laneCount]int // in this round
	count       int
}

func (l *lanes) push(d *delivery) {
	lane := laneOf(d.msg.priority)
	d.prev, d.next = l.last[lane], nil
	if d.prev == nil {
		l.first[lane] = d
	} else {
		d.prev.next = d
	}
	l.last[lane] = d
	l.count++
}

func (l *lanes) remove(d *delivery) {
	lane := laneOf(d.msg.priority)
	if d.prev == nil {
		l.first[lane] = d.next
	} else {
		d.prev.next = d.next
	}
	if d.next == nil {
		l.last[lane] = d.prev
	} else {
		d.next.prev = d.prev
	}
	d.prev, d.next = nil, nil
	l.count--
}

// pop takes the next message, or nil. A round ends when no lane in which
// something waits has credits left.
func (l *lanes) pop() *delivery {
	if l.count == 0 {
		return nil
	}
	for {
		for lane, d := range l.first {
			if d != nil && l.used[lane] < laneCredits[lane] {
				l.used[lane]++
				if lane == laneCount-1 {
					l.used = [laneCount]int{} // Its one credit ends the round.
				}
				l.remove(d)
				return d
			}
		}
		l.used = [laneCount]int{}
	}
}
