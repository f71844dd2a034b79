package security

import "github.com/plugbus/plugbus"

// The tests see what a policy was read from, and can break one.

// DocumentOf returns the document of a policy.
func DocumentOf(p *Policy) Document { return *p.doc }

// Broken returns a policy in which to decide about a message panics.
func Broken() *Policy {
	p := AllowAll()
	p.other.Trust = plugbus.Trust(200)
	return p
}
