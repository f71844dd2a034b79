package disk

// SyncData is what makes a commit durable.
var SyncData = syncData

// WithFault returns options whose engine calls fault before each step that may fail.
func WithFault(o Options, fault func(step string) error) Options {
	o.fault = fault
	return o
}

// Wait waits for the checkpoint that goes on in the background, if there is one.
func (e *Engine) Wait() { e.work.Wait() }
