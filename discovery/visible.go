package discovery

import "github.com/plugbus/plugbus"

// MayCall reports whether the client may call a capability of a plugin, by the
// rule that decides what it finds. What is not provided it may not call. The hub
// asks when a call begins, for whatever a match said may have changed.
func (c *Client) MayCall(provider, capability string) bool {
	r := c.index.recordFor(c, provider, capability)
	return r != nil && !c.hasEnded() && c.sight().sees(r)
}

// A sight is what a client sees in one query.
type sight struct {
	client *Client
	may    map[string]bool // what its guard said, by name; nil if nothing is asked twice
}

func (c *Client) sight() *sight { return &sight{client: c} }

// sees is the one rule of visibility. It calls guards, so no lock is held.
func (s *sight) sees(r *record) bool {
	if r.client == s.client {
		return true
	}
	return r.admits(s.client.id) && s.discovers(r.Name) &&
		r.client.guard.Permit(plugbus.VerbProvide, r.Name).Allowed()
}

// discovers asks the guard once for each name.
func (s *sight) discovers(name string) bool {
	may, known := s.may[name]
	if !known {
		may = s.client.guard.Permit(plugbus.VerbDiscover, name).Allowed()
		if s.may != nil {
			s.may[name] = may
		}
	}
	return may
}

// unavailable says why a capability is not available to the client, or "".
func (s *sight) unavailable(r *record) string {
	ask := s.client.index.opts.Availability
	if ask == nil {
		return ""
	}
	return plugbus.CutText(ask(s.client.id, r.client.id, r.Name))
}
