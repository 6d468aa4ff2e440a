import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.openapitools.client.ApiClient;
import org.openapitools.client.ApiException;
import org.openapitools.client.api.AdminApi;
import org.openapitools.client.api.ConsumersApi;
import org.openapitools.client.api.RecordsApi;
import org.openapitools.client.model.*;

/** A program against the client that openapi-generator made of the 3.0 document. */
public final class Use {
  private static final String NAME = "sdk-java";

  public static void main(String[] arguments) throws ApiException {
    ApiClient client = new ApiClient();
    client.updateBaseUri("http://" + System.getenv("HYDRANT_HTTP"));
    AdminApi admin = new AdminApi(client);
    RecordsApi producer = new RecordsApi(client);
    ConsumersApi consumers = new ConsumersApi(client);

    admin.createTopic(new NewTopic().topicName(NAME).partitionsCount(1));
    ProduceBody body = new ProduceBody()
        .addRecordsItem(new ProduceRecord().key("a").value(Map.of("amount", 1)))
        .addRecordsItem(new ProduceRecord().key("b").value(Map.of("amount", 2)));
    ProduceAnswer produced = producer.produce(NAME, body, null, null, null, null, null, null);
    equal(produced.getOffsets().stream().map(one -> one.getOffset()).toList(), List.of(0L, 1L));

    CreatedConsumer created = consumers.createConsumer(NAME,
        new NewConsumer().name("one").format("json").autoOffsetReset("earliest"));
    String instance = created.getInstanceId();
    consumers.subscribe(NAME, instance, new Subscription().addTopicsItem(NAME));
    List<Object> values = new ArrayList<>();
    for (int poll = 0; poll < 30 && values.size() < 2; poll++) {
      consumers.readRecords(NAME, instance, 1000L, null).forEach(one -> values.add(one.getValue()));
    }
    equal(values, List.of(Map.of("amount", 1), Map.of("amount", 2)));
    consumers.commitOffsets(NAME, instance, null, new Offsets()
        .addOffsetsItem(new PartitionOffset().topic(NAME).partition(0).offset(1L)));
    equal(admin.getGroup(NAME).getOffsets().stream().map(one -> one.getCommittedOffset()).toList(),
        List.of(2L));
    consumers.deleteConsumer(NAME, instance);

    try {
      admin.deleteTopic("none-such");
      throw new AssertionError("a topic that is not there was deleted");
    } catch (ApiException error) {
      equal(error.getCode(), 404);
    }
  }

  private static void equal(Object got, Object wanted) {
    if (!got.equals(wanted)) {
      throw new AssertionError(got + ", wanted " + wanted);
    }
  }
}
