package disk

import "fmt"

// checkpointBehind is a checkpoint beside commits. It waits for its turn, which has
// an end: whoever has it waits for no commit.
func (e *Engine) checkpointBehind() {
	e.turn <- struct{}{}
	_ = e.checkpoint() // The next commit returns the error.
	e.give()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.checkpointing = false
	e.checkpointed.Broadcast()
}

// checkpoint works what the log holds into the tree, and then leaves it out of the log.
// A crash in between does no harm, as the tree knows the number of the last commit that
// is in it. The caller has the turn.
func (e *Engine) checkpoint() error {
	e.mu.Lock()
	pending, last, end, err := e.pending, e.log.last, e.log.end, e.treeErr
	if err != nil || last == e.tree.applied {
		e.mu.Unlock()
		return err
	}
	e.pending = make(changes)
	e.mu.Unlock()

	if err = step(e.fault, "apply"); err == nil {
		err = e.tree.apply(pending, last)
	}

	e.mu.Lock()
	defer e.mu.Unlock()
	if err != nil {
		e.treeErr = fmt.Errorf("checkpoint: %w", err)
		e.fail(e.treeErr)
		return e.treeErr
	}
	e.stats.Checkpoints++
	e.measure()
	if e.err != nil {
		return nil // Nothing is written any more, so the log need not be shorter.
	}
	if err := e.log.trim(end, last); err != nil {
		e.fail(fmt.Errorf("checkpoint: %w", err))
		return e.err
	}
	return nil
}

// measure notes the size of the tree, and how long the log may be beside it. The caller
// holds mu.
func (e *Engine) measure() {
	e.limit = max(e.logBytes, min(e.tree.size, growthFactor*e.logBytes))
	e.stats.DatabaseBytes, e.stats.FreeBytes = e.tree.size, e.tree.free
}
