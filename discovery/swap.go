package discovery

import (
	"fmt"

	"github.com/plugbus/plugbus"
)

// Succeed puts c, which is held, in the place of old, in one step: from then on others
// find what c provides, and no longer what old does. There is no moment at which a
// capability that both provide is not there. Old may go on to ask and to check what it
// serves by its own schemas, until it is closed. C has no figures of old.
//
// The error is [ErrClosed] if one of the two has ended or was succeeded, and matches
// [plugbus.ErrInvalid] if c is not held for the place of old; nothing has changed then.
func (c *Client) Succeed(old *Client) error {
	x := c.index
	x.mu.Lock()
	defer x.mu.Unlock()
	switch {
	case !c.held || old == nil || old.index != x || old.id != c.id || old.held:
		return fmt.Errorf("discovery: client %q succeeds another: it has to be made with ClientOptions.Held, once for each, and the other has to be of its id and index: %w", c.id, plugbus.ErrInvalid)
	case c.ended || x.clients[c.id] != old:
		return fmt.Errorf("discovery: client %q succeeds another: %w", c.id, ErrClosed)
	}
	x.revision++
	for _, r := range old.records {
		x.unlist(r)
	}
	c.held, old.listed, c.listed = false, false, true
	x.clients[c.id] = c
	for _, r := range c.records {
		r.revision = x.revision // Nobody else has seen it yet.
		x.list(r)
	}
	return nil
}
