package actors

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// Associations lists the things that are associated with this core. progress hears how
// far it has come, from any goroutine. List returns soon after ctx ends.
type Associations interface {
	List(ctx context.Context, progress func(things, pages int)) messages.AssociationList
}

// Holdings is what the refresher needs of the read models.
type Holdings interface {
	Held() messages.Held
	MassRemovalGuard() bool
}

// Limits of a refresh.
const (
	refreshWindow    = 16 // questions under way at once: less than what background work may queue
	refreshAttempts  = 3  // at one question
	refreshTickMax   = time.Minute
	refreshRetryWait = time.Second // at least, before what could not be asked is asked
	changesChunk     = 500
)

// RefreshStatus describes the refresh for people. Times are trust milliseconds.
type RefreshStatus struct {
	Phase string // "", "listing", "confirming", "asking"
	DueMs int64
	Pages int // listed so far
	Done  int // questions settled …
	Total int // … of so many
	messages.Refreshed
}

// Refresher sees to it that the sync entity runs when it is due, and does what it orders:
// listing the associated things, and asking again about all that is held of them.
type Refresher struct {
	sys    *System
	list   Associations
	held   Holdings
	clock  Clock
	logger *slog.Logger
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	lists  sync.WaitGroup
	// inHandMs names the refresh that is being carried out, by its beginning; 0: none. What
	// the log says is under way and is not this one has been lost.
	inHandMs atomic.Int64

	mu     sync.Mutex
	closed bool        // guarded by mu, as all that follows
	stop   func() bool // the next tick
	status RefreshStatus
	sweep  *sweep
}

// sweep is one plan being carried out.
type sweep struct {
	todo     []attempt
	first    []attempt // before those: what the queue had no room for, at most refreshWindow
	out      int
	waiting  bool // for the queue to have room, or the network
	finished bool
}

// attempt is a step with the number of times it was tried.
type attempt struct {
	messages.RefreshStep
	tries int
}

// NewRefresher makes a refresher, which does what the sync entity of sys orders from then
// on. Call Start.
func NewRefresher(sys *System, list Associations, held Holdings, clock Clock, logger *slog.Logger) *Refresher {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	r := &Refresher{sys: sys, list: list, held: held, clock: clock, logger: logger}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	sys.refresher.Store(r)
	return r
}

// Start looks whether a refresh is due, and goes on doing so until Close.
func (r *Refresher) Start() { r.run() }

// Run begins a refresh now, due or not, unless one is under way.
func (r *Refresher) Run(ctx context.Context) (messages.RefreshAnswer, error) {
	reply, err := r.sys.Do(ctx, messages.RunRefresh{Force: true}, refreshCause)
	if err != nil {
		return messages.RefreshAnswer{}, err
	}
	answer, ok := reply.(messages.RefreshAnswer)
	if !ok {
		return answer, fmt.Errorf("refresh: unexpected reply %T", reply)
	}
	return answer, nil
}

// Status says how far the refresh is.
func (r *Refresher) Status() RefreshStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.status
}

// refreshCause is what the log calls the cause of all that a refresh does.
var refreshCause = messages.Cause{Request: "refresh"}

// run has a refresh begin if one is due, notes when the next one is, and comes again then,
// or in a minute: the trust clock may be set right meanwhile, or the log take this again.
func (r *Refresher) run() {
	r.sys.Submit(r.ctx, messages.RunRefresh{}, refreshCause, func(reply messages.Reply) {
		r.mu.Lock()
		defer r.mu.Unlock()
		if answer, ok := reply.(messages.RefreshAnswer); ok {
			r.status.DueMs = answer.DueMs
		}
		r.wait()
	})
}

// wait sets the next tick; mu is held.
func (r *Refresher) wait() {
	if r.closed {
		return
	}
	if r.stop != nil {
		r.stop()
	}
	left := time.Duration(r.status.DueMs-r.sys.clock.NowMs()) * time.Millisecond
	switch {
	case left <= 0 && !r.sys.NetworkUp():
		return // due already: it begins when the network is back, which network hears of
	case left <= 0: // the one under way is waited for
		left = refreshTickMax
	}
	r.stop = r.clock.AfterFunc(min(left, refreshTickMax), r.run)
}

// network is told that the link came or went: a refresh may be due, and one under way
// goes on.
func (r *Refresher) network(up bool) {
	if !up {
		return
	}
	r.run()
	r.mu.Lock()
	s := r.sweep
	r.mu.Unlock()
	if s != nil {
		r.goOn(s)
	}
}

// order carries out an effect of the sync entity.
func (r *Refresher) order(effect messages.ListAssociations) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return
	}
	r.inHandMs.Store(effect.StartedMs)
	if effect.Former == nil {
		r.status = RefreshStatus{Phase: "listing", DueMs: r.status.DueMs, Refreshed: messages.Refreshed{StartedMs: effect.StartedMs}}
		r.listNow(effect)
		return
	}
	r.status.Phase = "confirming"
	if effect.Delay == 0 {
		r.listNow(effect)
		return
	}
	r.logger.Warn("the list of associated things is in doubt: before any of those held here is removed it is asked for again",
		"missing", len(effect.Former), "after", effect.Delay)
	r.clock.AfterFunc(effect.Delay, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if !r.closed {
			r.listNow(effect)
		}
	})
}

// listNow lists beside everything else; mu is held.
func (r *Refresher) listNow(effect messages.ListAssociations) {
	r.lists.Add(1)
	r.sys.spawn(func() {
		defer r.lists.Done()
		list := r.list.List(r.ctx, func(things, pages int) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.status.Listed, r.status.Pages = things, pages
		})
		if r.ctx.Err() != nil {
			return // the next start finds the refresh unfinished
		}
		if !list.Complete {
			r.logger.Warn("associated things cannot be listed: no trust is renewed and nothing is removed", "error", list.Detail)
		}
		c := messages.AssociationsListed{Of: effect, List: list, Held: r.held.Held(), Guard: r.held.MassRemovalGuard()}
		r.sys.Submit(context.Background(), c, refreshCause, func(reply messages.Reply) {
			_, taken := reply.(messages.Done)
			if !taken {
				r.logger.Warn("what came of listing the associated things cannot be recorded: they are listed again", "error", reply)
			}
			if !taken || !list.Complete {
				r.letGo()
			}
		})
	})
}

// letGo says that the refresh in hand is not carried out any further.
func (r *Refresher) letGo() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.inHandMs.Store(0)
	r.status.Phase = ""
}

// reverify begins to carry out a plan: first who joined and left, then what goes, then
// the questions.
func (r *Refresher) reverify(effect messages.Reverify) {
	s := &sweep{}
	for _, step := range effect.Plan.Steps {
		s.todo = append(s.todo, attempt{RefreshStep: step})
	}
	r.mu.Lock()
	r.sweep = s
	r.status.Phase, r.status.Listed, r.status.Total = "asking", effect.Listed, len(s.todo)
	r.mu.Unlock()
	for chunk := range slices.Chunk(effect.Plan.Changes, changesChunk) {
		r.sys.tell(messages.AssociationsChanged{Changes: chunk}, refreshCause)
	}
	var forget, drop []messages.Command
	for _, thing := range effect.Plan.Forget {
		forget = append(forget, messages.ForgetDevice{Thing: thing, Source: messages.Source_SOURCE_CLOUD, Reason: "not associated with this core"})
	}
	for _, c := range effect.Plan.Drop {
		drop = append(drop, messages.DropCertificate{Certificate: c.Certificate, VerifiedMs: c.ConfirmedMs, Reason: "no thing associated with this core holds the certificate"})
	}
	// Things first: that is the reason why their sessions end.
	r.remove(s, forget, func() { r.remove(s, drop, func() { r.goOn(s) }) })
}

// remove submits the commands, a window at a time, then goes on with then.
func (r *Refresher) remove(s *sweep, commands []messages.Command, then func()) {
	if len(commands) == 0 {
		then()
		return
	}
	chunk := commands[:min(len(commands), refreshWindow)]
	left := len(chunk)
	for _, c := range chunk {
		r.sys.Submit(r.ctx, c, refreshCause, func(reply messages.Reply) {
			r.mu.Lock()
			if done, ok := reply.(messages.Done); ok && done.Seq != 0 { // else there was nothing to remove any more
				r.status.Removed++
			}
			left--
			last := left == 0
			r.mu.Unlock()
			if last { // on its own: replies may come from within Submit
				r.sys.run(func() { r.remove(s, commands[len(chunk):], then) })
			}
		})
	}
}

// goOn submits questions while there is room for them, and ends the sweep after the
// last. It is called whenever one is settled.
func (r *Refresher) goOn(s *sweep) {
	for {
		r.mu.Lock()
		step, ok := r.next(s)
		r.mu.Unlock()
		if !ok {
			break
		}
		r.ask(s, step)
	}
	r.mu.Lock()
	over := len(s.first)+len(s.todo)+s.out == 0 && !s.finished && !r.closed
	if over {
		s.finished, r.sweep, r.status.Phase = true, nil, ""
	}
	outcome := r.status.Refreshed
	r.mu.Unlock()
	if over {
		r.logger.Info("trust refreshed", "associated", outcome.Listed, "renewed", outcome.Renewed,
			"denied", outcome.Denied, "unanswered", outcome.Unanswered, "removed", outcome.Removed)
		r.report(outcome)
	}
}

// report has the outcome recorded: as long as the log does not take it, the refresh has
// not ended.
func (r *Refresher) report(outcome messages.Refreshed) {
	r.sys.Submit(context.Background(), outcome, refreshCause, func(reply messages.Reply) {
		if _, taken := reply.(messages.Done); taken {
			r.letGo()
			r.run() // to learn when the next is due
			return
		}
		r.logger.Warn("the outcome of the refresh cannot be recorded yet", "error", reply)
		r.clock.AfterFunc(refreshTickMax, func() {
			if r.ctx.Err() == nil {
				r.report(outcome)
			}
		})
	})
}

// next takes the step whose turn it is, if one may be asked now; mu is held.
func (r *Refresher) next(s *sweep) (attempt, bool) {
	if r.closed || s.finished || s.waiting || s.out >= refreshWindow {
		return attempt{}, false
	}
	if !r.sys.NetworkUp() { // until it is back: network goes on
		return attempt{}, false
	}
	from := &s.todo
	if len(s.first) > 0 {
		from = &s.first
	}
	if len(*from) == 0 {
		return attempt{}, false
	}
	step := (*from)[0]
	*from = (*from)[1:]
	s.out++
	return step, true
}

func (r *Refresher) ask(s *sweep, step attempt) {
	var c messages.Command = messages.RecheckCertificate{Certificate: step.Certificate, Refresh: true}
	if step.Thing != "" {
		c = messages.RecheckAttachment{Thing: step.Thing, Certificate: step.Certificate, Refresh: true}
	}
	r.sys.Submit(r.ctx, c, refreshCause, func(reply messages.Reply) {
		r.settle(s, step, reply)
		r.sys.run(func() { r.goOn(s) }) // on its own: replies may come from within Submit
	})
}

// settle counts the outcome of a step, or puts it back to be tried again.
func (r *Refresher) settle(s *sweep, step attempt, reply messages.Reply) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s.out--
	answer, answered := reply.(messages.Rechecked)
	switch {
	case !answered: // refused: the log may be full, and the answer lost
		if refusal, ok := reply.(*messages.Refusal); ok && refusal.Code == messages.RefusedBusy {
			r.pause(s, refusal.RetryAfter)
		}
		answer = messages.Rechecked{Asked: true}
	case answer.Wait > 0:
		s.first = append(s.first, step)
		r.pause(s, answer.Wait)
		return
	}
	if !answer.Asked || answer.Verdict != messages.CloudSilent || !r.again(s, step, answer.Failure) {
		r.count(answer)
	}
}

// again puts a step that got no answer behind the others, a few times; one that was not
// even asked has not had its turn. mu is held.
func (r *Refresher) again(s *sweep, step attempt, why messages.CloudFailure) bool {
	if why != messages.FailureNotAsked {
		step.tries++
	}
	if step.tries >= refreshAttempts {
		return false
	}
	s.todo = append(s.todo, step)
	if why == messages.FailureNotAsked || why == messages.FailureUnreachable {
		r.pause(s, refreshRetryWait) // the network may be about to be found down
	}
	return true
}

// pause asks nothing for a while; mu is held.
func (r *Refresher) pause(s *sweep, wait time.Duration) {
	if s.waiting || r.closed {
		return
	}
	s.waiting = true
	r.clock.AfterFunc(max(wait, refreshRetryWait), func() {
		r.mu.Lock()
		s.waiting = false
		r.mu.Unlock()
		r.goOn(s)
	})
}

// count takes the outcome of a step into account; mu is held.
func (r *Refresher) count(reply messages.Rechecked) {
	r.status.Done++
	switch {
	case !reply.Asked: // gone meanwhile
	case reply.Verdict == messages.CloudConfirmed:
		r.status.Renewed++
	case reply.Verdict == messages.CloudDenied:
		r.status.Denied++
	default:
		r.status.Unanswered++
	}
}

// Close stops the refresher and returns when no listing runs any more. A refresh that is
// under way is begun again by the next start, which leaves out what was renewed.
func (r *Refresher) Close() {
	r.mu.Lock()
	r.closed = true
	if r.stop != nil {
		r.stop()
	}
	r.mu.Unlock()
	r.cancel()
	r.lists.Wait()
}
