import java.time.Duration;
import java.util.*;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.stream.Collectors;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.InterruptException;
import org.apache.kafka.common.serialization.StringDeserializer;

/**
 * Apache's kafka-clients as a member of a group: reads, commits what it was handed, and leaves when standard input ends.
 * Its options are words NAME=VALUE, its lines those of member.py.
 */
public class Member implements ConsumerRebalanceListener {
  private final TreeSet<Integer> owned = new TreeSet<>();
  private final Map<TopicPartition, OffsetAndMetadata> uncommitted = new HashMap<>();

  public static void main(String[] words) throws Exception {
    Map<String, String> o = new HashMap<>();
    for (String word : words) {
      int equals = word.indexOf('=');
      if (equals > 0) o.put(word.substring(0, equals), word.substring(equals + 1));
    }
    var told = new AtomicBoolean();
    var listener = new Thread(() -> {
      try {
        System.in.readAllBytes();
      } catch (java.io.IOException ended) {
        // The same as its end.
      }
      told.set(true);
    });
    listener.setDaemon(true);
    listener.start();
    try (var consumer = new KafkaConsumer<>(settings(o), new StringDeserializer(), new StringDeserializer())) {
      var member = new Member();
      consumer.subscribe(List.of(o.get("topic")), member);
      while (!told.get()) member.turn(consumer);
    }
  }

  private static Map<String, Object> settings(Map<String, String> o) {
    Map<String, Object> settings = new HashMap<>();
    settings.put("bootstrap.servers", o.get("bootstrap"));
    settings.put("group.id", o.get("group"));
    settings.put("group.protocol", o.get("protocol"));
    settings.put("enable.auto.commit", false);
    settings.put("auto.offset.reset", "earliest");
    settings.put("max.poll.records", 20);
    settings.put("reconnect.backoff.max.ms", 200);
    if (o.containsKey("instance")) settings.put("group.instance.id", o.get("instance"));
    if (o.get("protocol").equals("classic")) {
      settings.put("session.timeout.ms", o.get("session_timeout_ms"));
      settings.put("heartbeat.interval.ms", 300);
      boolean cooperative = o.get("cooperative").equals("true");
      settings.put("partition.assignment.strategy",
          (cooperative ? CooperativeStickyAssignor.class : RangeAssignor.class).getName());
    }
    return settings;
  }

  private void turn(Consumer<String, String> consumer) {
    var records = consumer.poll(Duration.ofMillis(100));
    for (var record : records) {
      say("got " + record.partition() + " " + record.offset() + " " + record.value());
      var of = new TopicPartition(record.topic(), record.partition());
      uncommitted.put(of, new OffsetAndMetadata(record.offset() + 1));
    }
    uncommitted.keySet().retainAll(consumer.assignment());
    if (uncommitted.isEmpty()) return;
    try {
      consumer.commitSync(uncommitted);
      uncommitted.forEach((of, next) -> say("committed " + of.partition() + " " + next.offset()));
      uncommitted.clear();
    } catch (InterruptException interrupted) {
      throw interrupted;
    } catch (KafkaException rebalancesOrAway) {
      // What it still owns then is committed later, the rest comes again.
    }
  }

  @Override
  public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
    partitions.forEach(it -> owned.add(it.partition()));
    sayOwned();
  }

  @Override
  public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
    partitions.forEach(it -> owned.remove(it.partition()));
    sayOwned();
  }

  private void sayOwned() {
    say(("owns " + owned.stream().map(String::valueOf).collect(Collectors.joining(" "))).strip());
  }

  private static void say(String line) {
    System.out.println(line);
  }
}
