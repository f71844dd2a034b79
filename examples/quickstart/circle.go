package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/audit"
	"github.com/plugbus/plugbus/router"
)

// circle has plugins ask each other until one of them would wait for itself.
func (t *tour) circle(ctx context.Context) error {
	t.say(`The student asks the searcher to suggest a word. The searcher first asks the
student for its favourite, which the student asks the searcher to suggest. That
would wait for ever. The student gets:
`)
	_, err := router.Send[string](ctx, t.student.hub, "searcher", "text.suggest", nil, router.Timeout(5*time.Second))
	t.quote(fmt.Sprint(err))
	t.say("")
	remote, ok := errors.AsType[*plugbus.RemoteError](err)
	t.check(ok && strings.Contains(remote.Message, "student → searcher → student → searcher"), "the error says who waits for whom")
	found, err := t.hub.Audit().Search(audit.Query{Event: "send.refused", Actor: "student"})
	if err != nil {
		return err
	}
	t.otherRefusals += len(found.Entries)
	t.check(len(found.Entries) == 1 && found.Entries[0].Reason == plugbus.ReasonCycle, "the request that would close the circle was refused, and is on record")
	return nil
}
