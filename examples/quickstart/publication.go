package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/plugbus/plugbus/hub"
	"github.com/plugbus/plugbus/router"
)

// publication has the student publish, to whoever handles the topic.
func (t *tour) publication(ctx context.Context) error {
	t.say(`The student publishes under the topic "news.exam". The printer, the guest and the
host handle "news.*"; but the guest may consume nothing but "news.weather". The
receipt counts those whom the student may know of, which the host is not:
`)
	if err := listenTo(t.hub.Host(), t.news); err != nil {
		return err
	}
	if err := listenTo(t.guest.hub, t.guest.news); err != nil {
		return err
	}
	receipt, err := t.student.hub.Publish(ctx, "news.exam", "I have passed")
	if err != nil {
		return err
	}
	t.table(
		[]string{"matched", "accepted", "refused", "full"},
		[]string{fmt.Sprint(receipt.Matched), fmt.Sprint(receipt.Accepted), strings.Join(receipt.Refused, ", "), strings.Join(receipt.Full, ", ")},
	)
	printed, err := t.printed(ctx)
	if err != nil {
		return err
	}
	t.otherRefusals += len(receipt.Refused)
	t.check(receipt.Matched == 2 && receipt.Accepted == 1 && slices.Equal(receipt.Refused, []string{"guest"}),
		"the student knows who gets it, and who may not have it: %q", receipt.Refused)
	t.check(slices.Equal(printed, []string{"I have passed"}) && len(t.news) == 1 && len(t.guest.news) == 0, "the printer and the host got it, and the guest did not")
	return nil
}

// listenTo handles the news, as far as the plugin may have them.
func listenTo(hub *hub.Session, news chan<- router.Message) error {
	_, err := hub.HandleTopic("news.*", func(_ context.Context, m router.Message) error { return pass(news, m) }, router.Narrow())
	return err
}
