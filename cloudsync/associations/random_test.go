package associations

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"testing"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// registry is a service with things to list and a seed that says what goes wrong.
type registry struct {
	chance *rand.Rand
	things []string
	turn   int // makes tokens that were never given before
}

// ServeHTTP answers one request for a page: mostly as it should.
func (s *registry) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	at := 0
	if token := r.URL.Query().Get("nextToken"); token != "" {
		if s.chance.IntN(200) == 0 {
			once(400, "ValidationException")(w, r) // it has expired
			return
		}
		var turn int
		if _, err := fmt.Sscanf(token, "%d.%d", &at, &turn); err != nil {
			once(400, "ValidationException")(w, r)
			return
		}
	}
	s.turn++
	token := func(at int) string { return strconv.Itoa(at) + "." + strconv.Itoa(s.turn) }
	end := min(at+1+s.chance.IntN(20), len(s.things))
	names := slices.Clone(s.things[at:end])
	switch s.chance.IntN(24) {
	case 0:
		hangUp(w, r)
	case 1:
		cut(w, r)
	case 2:
		once(500, "InternalServerException")(w, r)
	case 3:
		once(429, "ThrottlingException", "Retry-After", "1")(w, r)
	case 4:
		page(token(at))(w, r) // nothing yet
	case 5:
		page(token(at), names...)(w, r) // and once more
	case 6:
		page(token(end), append(names, names...)[:min(2*len(names), pageSize)]...)(w, r)
	case 7:
		raw(503, `<html>`, "Content-Type", "text/html")(w, r)
	default:
		if end == len(s.things) {
			page("", names...)(w, r)
			return
		}
		page(token(end), names...)(w, r)
	}
}

// Reliability spec 2.3, D3c: whatever goes wrong on the way, a listing that says it is
// complete is.
func TestACompleteListingHasEverything(t *testing.T) {
	complete := 0
	for seed := range uint64(40) {
		s := &registry{chance: rand.New(rand.NewPCG(seed, 1))}
		for i := range 150 {
			s.things = append(s.things, fmt.Sprintf("thing-%03d", i))
		}
		site := newSite(t)
		site.Config.Handler = s
		l := site.lister(t)
		l.pagesMax = pagesMax
		got := l.List(t.Context(), nil)
		if !got.Complete {
			if got.Things != nil || got.Failure == messages.FailureNone {
				t.Errorf("seed %d: got %+v", seed, got)
			}
			continue
		}
		complete++
		var names []string
		for _, thing := range got.Things {
			names = append(names, string(thing))
		}
		if !slices.Equal(names, s.things) {
			t.Errorf("seed %d: %d things, want all %d", seed, len(names), len(s.things))
		}
	}
	if complete < 5 || complete > 35 {
		t.Errorf("%d of 40 listings were complete: the faults show too little or too much", complete)
	}
}
