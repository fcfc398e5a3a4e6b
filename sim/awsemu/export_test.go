package awsemu

// OnShadowMessage lets tests hear what is published because shadows changed.
func OnShadowMessage(r *Registry, f func(topic string, payload []byte)) {
	r.onMessage(func(m shadowMessage) { f(m.topic, m.payload) })
}
