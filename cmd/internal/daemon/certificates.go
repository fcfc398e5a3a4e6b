package daemon

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/gatehouse-edge/gatehouse/actors"
	"github.com/gatehouse-edge/gatehouse/actors/brokers/admin"
	"github.com/gatehouse-edge/gatehouse/actors/ca"
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/projections"
)

// The operations about authorities and certificates, and their bodies.
const (
	OpAuthority          = "authority"           // → AuthorityReport
	OpBundle             = "authority-bundle"    // BundleRequest → Bundle
	OpCertificateList    = "certificate-list"    // CertificatesRequest → Certificates
	OpExplainCertificate = "explain-certificate" // ExplainCertificateRequest → projections.CertificateExplanation
	OpRotate             = "certificate-rotate"  // RotateRequest → Rotated
	OpReplace            = "authority-replace"   // ReplaceRequest → AuthorityReport
	OpAnnounced          = "authority-announced" // AnnouncedRequest → AuthorityReport
	OpIssue              = "certificate-issue"   // IssueRequest → IssuedCertificate
	OpRevoke             = "certificate-revoke"  // RevokeRequest → Revoked
)

// certificateHandlers answer them: those that change something, and those that look.
func (d *Daemon) certificateHandlers() (orders, looks map[string]admin.Handler) {
	return map[string]admin.Handler{
			OpRotate: handle(d.rotate), OpReplace: handle(d.replaceAuthority), OpAnnounced: handle(d.announced), OpIssue: handle(d.issueComponent),
			OpRevoke: handle(d.revokeComponent),
		}, map[string]admin.Handler{
			OpAuthority: handle(d.authorityReport), OpBundle: handle(d.bundle), OpCertificateList: handle(d.certificateList),
			OpExplainCertificate: handle(d.explainCertificate),
		}
}

// AuthorityReport says which authorities there are, what comes to them, and what is wrong.
type AuthorityReport struct {
	At time.Time `json:"at"` // trust time
	actors.AuthorityStatus
	Upload   *UploadReport `json:"upload,omitempty"` // absent: nobody tells the cloud, or no daemon runs
	Warnings []string      `json:"warnings,omitempty"`
}

// UploadReport says how telling the cloud of the authorities goes.
type UploadReport struct {
	Failed  uint64     `json:"failed"`            // tries, since the start
	Since   *time.Time `json:"failing,omitempty"` // since when they fail
	Error   string     `json:"error,omitempty"`
	Waiting bool       `json:"waiting"` // for the network
}

// CertificatesRequest asks for a page of certificates: those behind the first After.
type CertificatesRequest struct {
	After int `json:"after,omitempty"`
}

// Certificates is a page of certificates; Next is where the following page begins, 0 at the
// end.
type Certificates struct {
	At           time.Time                `json:"at"`
	Certificates []actors.CertificateInfo `json:"certificates"`
	Next         int                      `json:"next,omitempty"`
	Warnings     []string                 `json:"warnings,omitempty"` // on the first page, about all of them
}

// BundleRequest asks for a page of what devices must trust, or, if Issuing, for the
// certificate alone that signs now.
type BundleRequest struct {
	After   int  `json:"after,omitempty"` // certificates
	Issuing bool `json:"issuing,omitempty"`
}

// Bundle is a page of certificates in PEM. Edition is the same on all pages of one bundle.
type Bundle struct {
	PEM     string `json:"pem"`
	Edition string `json:"edition"`
	Next    int    `json:"next,omitempty"`
}

// ExplainCertificateRequest names a certificate by the beginning of its serial number, or by
// its subscriber.
type ExplainCertificateRequest struct {
	Which string `json:"which"`
}

// RotateRequest asks for new certificates for the subscribers of these names, for all if
// there are none.
type RotateRequest struct {
	Names  []string `json:"names,omitempty"`
	Reason string   `json:"reason,omitempty"`
}

// Rotated says what a rotation has issued.
type Rotated struct {
	Count        int                      `json:"count"`
	Certificates []actors.CertificateInfo `json:"certificates"` // the first of them
	Pending      []string                 `json:"pending,omitempty"`
	Problem      string                   `json:"problem,omitempty"` // why there are pending ones
}

// ReplaceRequest asks for another managed authority.
type ReplaceRequest struct {
	Reason string `json:"reason,omitempty"`
}

// AnnouncedRequest says that whoever must trust the newest authority has it.
type AnnouncedRequest struct {
	By string `json:"by,omitempty"`
}

// IssueRequest asks for a client certificate for an internal component.
type IssueRequest struct {
	Name       string `json:"name"`
	CSR        string `json:"certificateSigningRequest"` // PEM
	ValidityMs int64  `json:"validityMs,omitempty"`      // 0: as the configuration says
	Reason     string `json:"reason,omitempty"`
}

// IssuedCertificate is a component's certificate.
type IssuedCertificate struct {
	Name        messages.ComponentName `json:"name"`
	Serial      string                 `json:"serial"`
	NotAfter    time.Time              `json:"notAfter"`
	Certificate string                 `json:"certificate"` // PEM
	Chain       string                 `json:"chain"`       // PEM of the authorities above it, the issuing one first
}

// Limits of what people write, and of answers, which must fit a NATS message of 64 KiB.
const (
	reasonBytesMax  = 200
	addressesShown  = 64
	rotatedShown    = 25
	certificatePage = 40 << 10
	bundlePage      = 44 << 10
)

// operatorsReason checks what an operator gave as a reason, and makes it one for the log.
func operatorsReason(text, otherwise string) (string, error) {
	if text == "" {
		text = otherwise
	}
	if len(text) > reasonBytesMax || !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) {
		return "", messages.Refuse(messages.RefusedInvalidArguments, "reason: want at most %d bytes of text in one line", reasonBytesMax)
	}
	return ca.ReasonOperator + text, nil
}

// refusal makes an answer of what an order met.
func refusal(err error) error {
	for _, one := range []struct {
		is   error
		hint string
	}{
		{actors.ErrUnknownSubscriber, "`gatehouse cert list` shows who subscribes; a component's certificate is issued with `gatehouse cert issue`"},
		{actors.ErrNoComponent, "`gatehouse cert list` shows those there are"},
		{actors.ErrCustom, "change what certificateAuthority.certificateUri and privateKeyUri name; the file's change is noticed"},
		{actors.ErrWaiting, "when devices have it, say so, and replace it when it issues; see `gatehouse ca show`"},
		{actors.ErrTimeUnknown, "it is known when the machine's clock is synchronised (NTP), or the cloud answers twice; see `gatehouse status`"},
		{actors.ErrSubscriber, "`gatehouse ca rotate NAME` issues its certificate anew"},
		{ca.ErrCSR, "make one with: openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout NAME.key -subj /CN=NAME -out NAME.csr"},
	} {
		if errors.Is(err, one.is) {
			return messages.Refuse(messages.RefusedInvalidArguments, "%v: %s", err, one.hint)
		}
	}
	return err
}

func (d *Daemon) authorityReport(context.Context, struct{}) (AuthorityReport, error) {
	a := d.authority.Load()
	return reportAuthority(a.View().Describe(), moment(d.trust.NowMs()), d.uploadReport()), nil
}

// reportAuthority makes a report that fits a message: certificates have pages of their own.
func reportAuthority(s actors.AuthorityStatus, now time.Time, upload *UploadReport) AuthorityReport {
	r := AuthorityReport{At: now, AuthorityStatus: s, Upload: upload, Warnings: warnings(s, upload, now)}
	r.Certificates = nil
	r.Addresses = shortened(r.Addresses)
	r.LeftOut = shortened(r.LeftOut)
	r.Failing = shortened(r.Failing)
	for i := range r.Authorities {
		a := &r.Authorities[i]
		a.Subject, a.Root = fmt.Sprintf("%.300s", a.Subject), fmt.Sprintf("%.300s", a.Root)
	}
	return r
}

// shortened bounds a list of texts.
func shortened(list []string) []string {
	short := slices.Clone(list[:min(len(list), addressesShown)])
	for i := range short {
		short[i] = fmt.Sprintf("%.200s", short[i])
	}
	return short
}

// uploadReport is nil if nobody tells the cloud.
func (d *Daemon) uploadReport() *UploadReport {
	if d.uploads == nil {
		return nil
	}
	s := d.uploads.State()
	r := &UploadReport{Failed: s.Failed, Waiting: s.Waiting}
	if s.Err != nil {
		since := s.Since.UTC()
		r.Since, r.Error = &since, fmt.Sprintf("%.500s", s.Err)
	}
	return r
}

func (d *Daemon) certificateList(_ context.Context, q CertificatesRequest) (Certificates, error) {
	a := d.authority.Load()
	return listCertificates(withdrawn(a.View().Describe(), d.views), moment(d.trust.NowMs()), d.uploadReport(), q)
}

// listCertificates makes a page that fits a message.
func listCertificates(s actors.AuthorityStatus, now time.Time, upload *UploadReport, q CertificatesRequest) (Certificates, error) {
	page, bytes := Certificates{At: now, Certificates: []actors.CertificateInfo{}}, 0
	if q.After == 0 {
		page.Warnings = warnings(s, upload, now)
	}
	for i := max(q.After, 0); i < len(s.Certificates); i++ {
		line, err := json.Marshal(s.Certificates[i])
		if err != nil {
			return Certificates{}, err
		}
		if bytes += len(line); bytes > certificatePage && len(page.Certificates) > 0 {
			page.Next = i
			break
		}
		page.Certificates = append(page.Certificates, s.Certificates[i])
	}
	return page, nil
}

func (d *Daemon) bundle(_ context.Context, q BundleRequest) (Bundle, error) {
	a := d.authority.Load()
	return pageBundle(a.View(), q)
}

// pageBundle makes a page of whole certificates that fits a message.
func pageBundle(v actors.AuthorityView, q BundleRequest) (Bundle, error) {
	text := v.PEM()
	if q.Issuing {
		var err error
		if text, err = v.Issuing(); err != nil {
			return Bundle{}, messages.Refuse(messages.RefusedNotReady, "%v", err)
		}
	}
	page := Bundle{Edition: string(messages.CertificateIDOf(text))}
	var out strings.Builder
	for i := 0; ; i++ {
		block, rest := pem.Decode(text)
		if block == nil {
			break
		}
		one := text[:len(text)-len(rest)]
		if text = rest; i < q.After {
			continue
		}
		if out.Len() > 0 && out.Len()+len(one) > bundlePage {
			page.Next = i
			break
		}
		out.Write(one)
	}
	page.PEM = out.String()
	return page, nil
}

func (d *Daemon) explainCertificate(ctx context.Context, q ExplainCertificateRequest) (projections.CertificateExplanation, error) {
	return ExplainCertificate(ctx, d.log, q)
}

// ExplainCertificate answers an ExplainCertificateRequest.
func ExplainCertificate(ctx context.Context, log projections.StreamReader, q ExplainCertificateRequest) (projections.CertificateExplanation, error) {
	x, err := projections.ExplainCertificate(ctx, log, q.Which)
	if errors.Is(err, projections.ErrNoCertificate) {
		return x, messages.Refuse(messages.RefusedInvalidArguments, "%v", err)
	}
	return x, err
}

// rotate issues certificates anew. What is not done when the time for an answer is over, or
// fails, is pending: it is tried again.
func (d *Daemon) rotate(ctx context.Context, q RotateRequest) (Rotated, error) {
	a := d.authority.Load()
	reason, err := operatorsReason(q.Reason, "asked to rotate")
	if err != nil {
		return Rotated{}, err
	}
	before := map[string]string{}
	key := func(c actors.CertificateInfo) string { return c.Subscriber + " " + c.Usage }
	for _, c := range a.Describe().Certificates {
		before[key(c)] = c.Serial
	}
	err = a.Rotate(ctx, reason, q.Names...)
	if errors.Is(err, actors.ErrUnknownSubscriber) {
		return Rotated{}, refusal(err)
	}
	r := Rotated{Certificates: []actors.CertificateInfo{}}
	if err != nil {
		r.Problem = fmt.Sprintf("%.1000s", err)
	}
	for _, c := range a.Describe().Certificates {
		switch {
		case !c.Subscribed || len(q.Names) > 0 && !slices.Contains(q.Names, c.Subscriber):
		case before[key(c)] == c.Serial:
			r.Pending = append(r.Pending, key(c))
		default:
			if r.Count++; len(r.Certificates) < rotatedShown {
				r.Certificates = append(r.Certificates, c)
			}
		}
	}
	r.Pending = shortened(r.Pending)
	if len(r.Pending) > 0 && r.Problem == "" {
		r.Problem = "no authority can issue certificates now; see `gatehouse ca show`"
	}
	return r, nil
}

func (d *Daemon) replaceAuthority(ctx context.Context, q ReplaceRequest) (AuthorityReport, error) {
	a := d.authority.Load()
	reason, err := operatorsReason(q.Reason, "asked to replace it")
	if err != nil {
		return AuthorityReport{}, err
	}
	if err := a.Replace(ctx, reason); err != nil {
		return AuthorityReport{}, refusal(err)
	}
	return d.authorityReport(ctx, struct{}{})
}

func (d *Daemon) announced(ctx context.Context, q AnnouncedRequest) (AuthorityReport, error) {
	a := d.authority.Load()
	by, err := operatorsReason(q.By, "an administrator")
	if err != nil {
		return AuthorityReport{}, err
	}
	if list := a.Describe().Authorities; len(list) > 0 && list[len(list)-1].Issues {
		return AuthorityReport{}, messages.Refuse(messages.RefusedInvalidArguments, "the newest authority issues already: nothing waits for devices to have it")
	}
	if err := a.Announced(ctx, strings.TrimPrefix(by, ca.ReasonOperator)); err != nil {
		return AuthorityReport{}, err
	}
	return d.authorityReport(ctx, struct{}{})
}

func (d *Daemon) issueComponent(ctx context.Context, q IssueRequest) (IssuedCertificate, error) {
	a := d.authority.Load()
	name, err := messages.ParseComponentName(q.Name)
	if err != nil {
		return IssuedCertificate{}, messages.Refuse(messages.RefusedInvalidArguments, "%v", err)
	}
	reason, err := operatorsReason(q.Reason, "asked to issue")
	if err != nil {
		return IssuedCertificate{}, err
	}
	validity := d.views.Section().Certificates.ClientValidity()
	if q.ValidityMs != 0 {
		if validity = time.Duration(q.ValidityMs) * time.Millisecond; q.ValidityMs < ca.ValidityMin.Milliseconds() || q.ValidityMs > ca.ValidityMax.Milliseconds() {
			return IssuedCertificate{}, messages.Refuse(messages.RefusedInvalidArguments, "validity: want %s to %s", ca.ValidityMin, ca.ValidityMax)
		}
	}
	if rights, _ := d.views.BrokerRights(messages.BrokerID(name)); rights.NoComponent { // it would count for nothing
		return IssuedCertificate{}, messages.Refuse(messages.RefusedInvalidArguments, "broker %[1]s may have no client certificates any more, so that one would count for nothing: "+
			"`gatehouse broker add %[1]s --certificates client` gives the right back; or take another name", name)
	}
	public, err := ca.ParseCSR([]byte(q.CSR))
	if err != nil {
		return IssuedCertificate{}, refusal(err)
	}
	issued, err := a.IssueComponent(ctx, name, public, validity, reason)
	if err != nil {
		return IssuedCertificate{}, refusal(err)
	}
	return IssuedCertificate{
		Name: name, Serial: issued.Serial, NotAfter: issued.NotAfter.UTC(), Certificate: encodePEM(issued.Certificate), Chain: encodePEM(issued.Chain...),
	}, nil
}

// withdrawn marks the certificates of brokers whose right to them was taken back, too.
func withdrawn(s actors.AuthorityStatus, views *projections.Views) actors.AuthorityStatus {
	for i := range s.Certificates {
		c := &s.Certificates[i]
		rights, _ := views.BrokerRights(messages.BrokerID(c.Subscriber))
		c.Withdrawn = c.Withdrawn || c.Usage == ca.Client.String() && rights.NoComponent
	}
	return s
}

func encodePEM(list ...[]byte) string {
	var text strings.Builder
	for _, der := range list {
		_ = pem.Encode(&text, &pem.Block{Type: "CERTIFICATE", Bytes: der}) // a builder takes everything
	}
	return text.String()
}

// StoredAuthority is what a stopped daemon's directory says of authorities and certificates.
type StoredAuthority struct {
	view  actors.AuthorityView
	views *projections.Views
	now   time.Time
}

// StoredAuthorityOf reads it. dir is the daemon's directory, whose ca.pem is what devices
// find.
func StoredAuthorityOf(ctx context.Context, s *Stored, dir string) (StoredAuthority, error) {
	published, err := readLimited(CAFile(dir), 1<<20)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return StoredAuthority{}, err
	}
	now := moment(s.NowMs)
	v, err := actors.StoredAuthorities(s.Log.Read(ctx, messages.StreamCA, 1), authoritySettings(s.Views.Section()), now, published)
	return StoredAuthority{v, s.Views, now}, err
}

// Report is what OpAuthority answers.
func (s StoredAuthority) Report() AuthorityReport {
	return reportAuthority(s.view.Describe(), s.now, nil)
}

// Certificates is what OpCertificateList answers.
func (s StoredAuthority) Certificates(q CertificatesRequest) (Certificates, error) {
	return listCertificates(withdrawn(s.view.Describe(), s.views), s.now, nil, q)
}

// Bundle is what OpBundle answers.
func (s StoredAuthority) Bundle(q BundleRequest) (Bundle, error) { return pageBundle(s.view, q) }
