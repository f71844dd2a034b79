package plugbus

import "fmt"

// A Priority is how urgent a message is. To send with more than the normal one
// needs a grant.
type Priority int8

// The priorities. The zero value is the default.
const (
	PriorityLow Priority = iota - 1
	PriorityNormal
	PriorityHigh
)

var priorityNames = [...]string{"low", "normal", "high"}

// Valid reports whether p is one of the priorities.
func (p Priority) Valid() bool { return p >= PriorityLow && p <= PriorityHigh }

// String returns the priority as policies spell it, such as "normal".
func (p Priority) String() string {
	if !p.Valid() {
		return fmt.Sprintf("Priority(%d)", int8(p))
	}
	return priorityNames[p-PriorityLow]
}

// MarshalText returns what String returns, or an error for an unknown priority.
func (p Priority) MarshalText() ([]byte, error) {
	if !p.Valid() {
		return nil, fmt.Errorf("plugbus: no priority has the number %d", int8(p))
	}
	return []byte(p.String()), nil
}

// UnmarshalText accepts what MarshalText returns, and nothing else.
func (p *Priority) UnmarshalText(text []byte) error {
	var i uint8
	if err := enumParse("priority", priorityNames[:], text, &i); err != nil {
		return err
	}
	*p = PriorityLow + Priority(i)
	return nil
}
