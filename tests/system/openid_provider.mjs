// A provider for the tests: node openid_provider.mjs DIRECTORY PORT HUB-URL ACCESS-TOKEN-SECONDS
// DIRECTORY has the node_modules. The working directory has people.json, name → groups, read anew for each question.
// What happens is written as one JSON object a line.
import { readFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';

const [packages, port, hub, seconds] = process.argv.slice(2);
const { default: Provider } = await import(pathToFileURL(`${packages}/node_modules/oidc-provider/lib/index.js`).href);

const provider = new Provider(`http://localhost:${port}`, {
  clients: [{
    client_id: 'hub',
    client_secret: 'hub-secret',
    token_endpoint_auth_method: 'client_secret_post',
    grant_types: ['authorization_code', 'refresh_token'],
    redirect_uris: [`${hub}/hub/oauth_callback`],
    post_logout_redirect_uris: [`${hub}/hub/login`],
  }],
  routes: { authorization: '/authorize', token: '/token', userinfo: '/userinfo', end_session: '/logout' },
  claims: { openid: ['sub'], profile: ['preferred_username', 'groups'] },
  // A refresh token is good once; its second use ends the whole log-in.
  rotateRefreshToken: true,
  pkce: { required: () => true, methods: ['S256'] },
  clockTolerance: 0,
  ttl: { AccessToken: Number(seconds), AuthorizationCode: 60, Grant: 3600, IdToken: 3600, Interaction: 600, RefreshToken: 3600, Session: 3600 },
  findAccount: (context, id) => {
    const found = JSON.parse(readFileSync('people.json', 'utf8'))[id];
    return found && { accountId: id, claims: () => ({ sub: id, preferred_username: id, groups: found }) };
  },
});

const tell = (event, more) => console.log(JSON.stringify({ event, ...more }));
provider.on('authorization.accepted', (context) => tell('authorization', context.oidc.params));
provider.on('grant.success', (context) => tell('grant', { type: context.oidc.params.grant_type, verifier: context.oidc.params.code_verifier }));
provider.on('grant.error', (context, error) => tell('refused', { error: error.message, detail: error.error_detail }));
provider.on('end_session.success', () => tell('log-out', {}));
provider.listen(Number(port), '127.0.0.1', () => tell('listening', {}));
