package main

import "context"

// reading has the reader read and the counter count. The clumsy plugin is there
// too, but nobody notices yet.
func (t *tour) reading(ctx context.Context) error {
	t.say(`The host registers three plugins. The reader emits each file as an event,
"files.read"; the counter and a third plugin have subscribed to that name. None
of them knows of another. The counter keeps its counts in a store.
`)
	if err := t.hub.Register(ctx, &reader{files: t.in.files}, &counter{}, &clumsy{}); err != nil {
		return err
	}
	if err := t.ask(ctx, "work.read"); err != nil {
		return err
	}
	told, _ := t.plugin("reader")
	_, heard := t.plugin("counter")
	all := uint64(len(t.in.files))
	t.check(told.Emitted == all && told.Refused == 0,
		"the hub took %s of %s files from the reader, and refused %s", figure(told.Emitted), figure(all), figure(told.Refused))
	t.check(heard.Handled == all && heard.Ended() == all,
		"the counter has handled %s of %s", figure(heard.Handled), figure(all))
	return nil
}
