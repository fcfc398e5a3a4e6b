package cloudsync

import (
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/gatehouse-edge/gatehouse/cloudsync/wire"
	"github.com/gatehouse-edge/gatehouse/messages"
)

var (
	ourID   = messages.CertificateID(strings.Repeat("ab", 32))
	otherID = strings.Repeat("cd", 32)
	jsonOf  = http.Header{"Content-Type": {"application/json"}}
)

func headers(pairs ...string) http.Header {
	h := http.Header{"Content-Type": {"application/json"}}
	for i := 0; i < len(pairs); i += 2 {
		h.Del(pairs[i])
	}
	for i := 0; i < len(pairs); i += 2 {
		h.Add(pairs[i], pairs[i+1])
	}
	return h
}

// The classes of cloud spec 1.4 and 1.5.
func TestAnswersAreClassified(t *testing.T) {
	const yes, no, none = messages.CloudConfirmed, messages.CloudDenied, messages.CloudSilent
	notFound := "ResourceNotFoundException"
	for _, test := range []struct {
		name   string
		status int
		header http.Header
		body   string
		want   messages.CloudVerdict
		says   string
	}{
		{"our id", 200, jsonOf, `{"clientDeviceCertificateId":"` + string(ourID) + `"}`, yes, "confirmed"},
		{"empty object", 200, jsonOf, `{}`, yes, "confirmed"},
		{"null id", 200, jsonOf, `{"clientDeviceCertificateId":null}`, yes, ""},
		{"unknown members", 200, jsonOf, `{"a":[1,{"b":2}]}`, yes, ""},
		{"201", 201, jsonOf, `{}`, yes, ""},
		{"charset", 200, headers("Content-Type", "application/json; charset=utf-8"), `{}`, yes, ""},
		{"AWS's own JSON type", 200, headers("Content-Type", "application/x-amz-json-1.1"), `{}`, yes, ""},

		{"another id", 200, jsonOf, `{"clientDeviceCertificateId":"` + otherID + `"}`, none, "not for"},
		{"another id in other letters", 200, jsonOf, `{"ClientDeviceCertificateId":"` + otherID + `"}`, none, "not for"},
		{"ours, then another", 200, jsonOf, `{"clientDeviceCertificateId":"` + string(ourID) + `","clientDeviceCertificateId":"` + otherID + `"}`, none, "not for"},
		{"another, then ours", 200, jsonOf, `{"clientDeviceCertificateId":"` + otherID + `","clientDeviceCertificateId":"` + string(ourID) + `"}`, none, "not for"},
		{"id is a number", 200, jsonOf, `{"clientDeviceCertificateId":7}`, none, "not a text"},
		{"another thing", 200, jsonOf, `{"clientDeviceThingName":"valve-1"}`, none, "not for"},
		{"no body", 200, jsonOf, ``, none, "without a JSON body"},
		{"204", 204, http.Header{}, ``, none, "without a JSON body"},
		{"HTML", 200, headers("Content-Type", "text/html"), `<html>sign in</html>`, none, "captive portal"},
		{"JSON called HTML", 200, headers("Content-Type", "text/html"), `{}`, none, "captive portal"},
		{"no content type", 200, http.Header{}, `{}`, none, "content type"},
		{"array", 200, jsonOf, `[]`, none, "no object"},
		{"text", 200, jsonOf, `"ok"`, none, "no object"},
		{"cut off", 200, jsonOf, `{"clientDeviceCertificateId":"`, none, "malformed"},
		{"two values", 200, jsonOf, `{}{}`, none, "malformed"},
		{"invalid UTF-8", 200, jsonOf, "{\"a\":\"\xff\"}", none, "malformed"},
		{"packed", 200, headers("Content-Encoding", "gzip"), `{}`, none, "encoding"},
		{"success that names an error in its header", 200, headers("X-Amzn-ErrorType", "InternalServerException"), `{}`, none, "contradicts"},
		{"success that names an error in its body", 200, jsonOf, `{"__type":"ThrottlingException"}`, none, "contradicts"},

		{"not found by header", 404, headers("X-Amzn-ErrorType", notFound), `{"message":"gone"}`, no, "gone"},
		{"with namespace and text", 404, headers("X-Amzn-ErrorType", "com.amazonaws.greengrass#"+notFound+":http://internal/"), `{}`, no, notFound},
		{"not found by __type", 404, jsonOf, `{"__type":"aws#` + notFound + `"}`, no, notFound},
		{"not found by code", 404, jsonOf, `{"code":"` + notFound + `"}`, no, notFound},
		{"validation", 400, headers("X-Amzn-ErrorType", "ValidationException"), `{"message":"bad PEM"}`, no, "bad PEM"},
		{"not found without body", 404, http.Header{"X-Amzn-Errortype": {notFound}}, ``, no, notFound},
		{"the header wins over the body", 404, headers("X-Amzn-ErrorType", notFound), `{"__type":"ThrottlingException"}`, no, notFound},
		{"the header wins, the other way", 429, headers("X-Amzn-ErrorType", "ThrottlingException"), `{"__type":"` + notFound + `"}`, none, "throttled"},

		{"404 of nobody in particular", 404, jsonOf, `{"message":"Not Found"}`, none, "operation's path"},
		{"404 page", 404, headers("Content-Type", "text/html"), `<html>`, none, "captive portal"},
		{"404 page that claims the name", 404, headers("Content-Type", "text/html", "X-Amzn-ErrorType", notFound), `<html>`, none, "captive portal"},
		{"two names", 404, headers("X-Amzn-ErrorType", notFound, "X-Amzn-ErrorType", "ThrottlingException"), `{}`, none, "two different"},
		{"not found, but the server failed", 500, headers("X-Amzn-ErrorType", notFound), `{}`, none, "the cloud failed"},
		{"a name that only begins alike", 404, headers("X-Amzn-ErrorType", notFound+"s"), `{}`, none, ""},
		{"access denied", 403, headers("X-Amzn-ErrorType", "AccessDeniedException"), `{"message":null}`, none, "policy"},
		{"403 without a name", 403, jsonOf, `{"message":null,"traceId":"x"}`, none, "policy"},
		{"throttled", 429, headers("X-Amzn-ErrorType", "ThrottlingException", "Retry-After", "7"), `{}`, none, `Retry-After "7"`},
		{"conflict", 409, headers("X-Amzn-ErrorType", "ConflictException"), `{}`, none, ""},
		{"in progress", 400, headers("X-Amzn-ErrorType", "RequestAlreadyInProgressException"), `{}`, none, ""},
		{"quota", 402, headers("X-Amzn-ErrorType", "ServiceQuotaExceededException"), `{}`, none, ""},
		{"internal", 500, headers("X-Amzn-ErrorType", "InternalServerException"), `{}`, none, "wait"},
		{"unavailable", 503, http.Header{}, ``, none, "wait"},
		{"redirect", 302, headers("Location", "http://portal.example/"), `{}`, none, "portal.example"},
		{"redirect that names an error", 302, headers("X-Amzn-ErrorType", notFound), `{}`, none, "redirects"},
		{"switching protocols", 101, jsonOf, `{}`, none, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := parseAnswer(messages.CloudQuestion{Certificate: ourID, Thing: "pump-7"}, test.status, test.header, []byte(test.body))
			if got.Verdict != test.want || !strings.Contains(got.Detail, test.says) {
				t.Errorf("got %s (%s), want %s with %q", got.Verdict, got.Detail, test.want, test.says)
			}
		})
	}
}

// The Date of an answer can move the trust clock, so only a well-formed answer has one.
func TestOnlyTheServicesAnswersCarryADate(t *testing.T) {
	date := []string{"Date", noon.Format(http.TimeFormat)}
	for name, test := range map[string]struct {
		status int
		header http.Header
		body   string
		want   time.Time
	}{
		"confirmed": {200, headers(date...), `{}`, noon},
		"denied":    {404, headers(append(date, "X-Amzn-ErrorType", errNotFound)...), `{}`, noon},
		"throttled": {429, headers(append(date, "X-Amzn-ErrorType", "ThrottlingException")...), `{}`, noon},
		"no date":   {200, jsonOf, `{}`, time.Time{}},
		"nonsense":  {200, headers("Date", "yesterday"), `{}`, time.Time{}},
		"HTML":      {200, headers(append(date, "Content-Type", "text/html")...), `<html>`, time.Time{}},
		"redirect":  {302, headers(date...), `{}`, time.Time{}},
		"malformed": {200, headers(date...), `{`, time.Time{}},
		"packed":    {200, headers(append(date, "Content-Encoding", "br")...), `{}`, time.Time{}},
	} {
		if got := parseAnswer(messages.CloudQuestion{Certificate: ourID}, test.status, test.header, []byte(test.body)); !got.Date.Equal(test.want) {
			t.Errorf("%s: got %v, want %v", name, got.Date, test.want)
		}
	}
}

// Cloud spec 1.5, over the wire: each status with each error name, for both operations.
// A no needs its name and its status; our own AccessDenied is never one.
func TestEachStatusWithEachErrorName(t *testing.T) {
	names := []string{"", "ValidationException", "ResourceNotFoundException", "AccessDeniedException", "ThrottlingException", "InternalServerException", "ConflictException"}
	kinds := map[rune]struct {
		verdict messages.CloudVerdict
		failure messages.CloudFailure
	}{
		'Y': {verdict: messages.CloudConfirmed},
		'N': {verdict: messages.CloudDenied},
		'R': {failure: messages.FailureRefused},
		'T': {failure: messages.FailureThrottled},
		'S': {failure: messages.FailureServer},
		'?': {failure: messages.FailureNotService},
	}
	var status int
	var name string
	e := newEndpoint(t, func(w http.ResponseWriter, r *http.Request) {
		if name != "" {
			w.Header().Set("X-Amzn-ErrorType", name)
		}
		w.Header().Set("Retry-After", "7")
		w.Header().Set("Date", noon.Format(http.TimeFormat))
		answerWith(status, `{"message":"as told"}`)(w, r)
	}, nil)
	client := e.client(t)
	_, identity := device(t)
	association := messages.CloudQuestion{Certificate: identity.Certificate, Thing: "pump-7"}
	for _, row := range []struct {
		status int
		want   string // one letter for each name
	}{
		{200, "Y??????"},
		{400, "?NNRTSS"},
		{401, "RRRRTSR"},
		{403, "RRRRTSR"},
		{404, "?NNRTSS"},
		{409, "?SSRTSS"},
		{429, "TTTRTST"},
		{500, "SSSRTSS"},
		{502, "SSSRTSS"},
		{503, "SSSRTSS"},
		{504, "SSSRTSS"},
	} {
		for i, letter := range row.want {
			status, name = row.status, names[i]
			want := kinds[letter]
			for op, q := range map[Operation]messages.CloudQuestion{OpVerifyIdentity: identity, OpVerifyAssociation: association} {
				got := client.Ask(t.Context(), q)
				if got.Verdict != want.verdict || got.Failure != want.failure {
					t.Errorf("%d %q to %s: got %s, failure %d (%s), want %c", status, name, op, got.Verdict, got.Failure, got.Detail, letter)
				}
				if said := got.Failure != messages.FailureNotService; got.Date.Equal(noon) != said || got.Date.IsZero() == said {
					t.Errorf("%d %q to %s: dated %v", status, name, op, got.Date)
				}
				if throttled := got.Failure == messages.FailureThrottled; throttled && got.RetryAfter != 7*time.Second || got.Verdict != messages.CloudSilent && got.RetryAfter != 0 {
					t.Errorf("%d %q to %s: retry after %v", status, name, op, got.RetryAfter)
				}
			}
		}
	}
}

// FuzzResponse: whatever comes back, the answer is well-formed, confirms only a 2xx
// without an error and with our id if any, and denies only on the two names.
func FuzzResponse(f *testing.F) {
	f.Add(200, "application/json", "", "", []byte(`{"clientDeviceCertificateId":"`+string(ourID)+`"}`))
	f.Add(200, "application/json", "", "", []byte(`{"clientDeviceCertificateId":"`+otherID+`"}`))
	f.Add(404, "application/json", "ResourceNotFoundException:x", "", []byte(`{"message":"m"}`))
	f.Add(400, "application/json", "", "", []byte(`{"__type":"a#ValidationException"}`))
	f.Add(200, "text/html", "", "gzip", []byte(`<html>`))
	f.Add(302, "", "", "", []byte(``))
	f.Add(200, "application/json", "", "", []byte(`{"CLIENTDEVICECERTIFICATEID":"x","clientDeviceCertificateId":null}`))
	f.Fuzz(func(t *testing.T, status int, contentType, errorType, encoding string, body []byte) {
		header := http.Header{}
		for name, value := range map[string]string{"Content-Type": contentType, "X-Amzn-ErrorType": errorType, "Content-Encoding": encoding} {
			if value != "" {
				header.Set(name, value)
			}
		}
		got := parseAnswer(messages.CloudQuestion{Certificate: ourID}, status, header, body)
		if silent := got.Verdict == messages.CloudSilent; silent != (got.Failure != messages.FailureNone) {
			t.Errorf("%s with failure %d", got.Verdict, got.Failure)
		}
		if !got.Date.IsZero() || got.RetryAfter < 0 {
			t.Errorf("dated %v, retry after %v without either header", got.Date, got.RetryAfter)
		}
		if len(got.Detail) > wire.DetailBytesMax || got.Detail == "" || !utf8.ValidString(got.Detail) {
			t.Errorf("detail %q", got.Detail)
		}
		text := string(body)
		switch got.Verdict {
		case messages.CloudConfirmed:
			if status < 200 || status > 299 || encoding != "" && !strings.EqualFold(encoding, "identity") || !strings.Contains(text, "{") {
				t.Errorf("confirmed by %d %q %q %q", status, contentType, encoding, body)
			}
			if strings.Contains(text, `"clientDeviceCertificateId":"`+otherID) && !strings.Contains(text, `\`) && strings.Count(text, "{") == 1 {
				t.Errorf("confirmed by another's id: %q", body)
			}
		case messages.CloudDenied:
			all := errorType + text
			if status != 400 && status != 404 || !(strings.Contains(all, errValidation) || strings.Contains(all, errNotFound) || strings.Contains(text, `\`)) {
				t.Errorf("denied by %d %q %q", status, errorType, body)
			}
		case messages.CloudSilent:
		default:
			t.Errorf("verdict %d", got.Verdict)
		}
	})
}
